//! All members on one machine, each a process of its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use weft_worker::bench::ReduceReport;
use weft_worker::collective::RingListener;

use super::Args;
use super::members::Members;
use crate::exit::{Exit, Failure};
use crate::output::print;

/// How long members of one machine may take to find each other.
const FORM_WITHIN: Duration = Duration::from_secs(30);

/// A member's process; ended when dropped.
struct Member {
    child: Child,
    said: BufReader<ChildStdout>,
}

/// Starts the members, tells each where the others are, and gives what the first measured.
pub(super) fn measure(args: &Args) -> Result<ReduceReport, Failure> {
    measured(args).map_err(|error| Failure::new(Exit::Job, format_args!("{error:#}")))
}

fn measured(args: &Args) -> Result<ReduceReport> {
    let devices = args
        .device
        .all()
        .map_err(|failure| anyhow!("{}", failure.text()))?;
    let start = |number| Member::start(args, &devices.of_worker(number));
    let mut members = (1..=args.workers).map(start).collect::<Result<Vec<_>>>()?;
    let addresses = members.iter_mut().map(Member::line);
    let addresses = addresses.collect::<Result<Vec<_>>>()?.join(",");
    for (rank, member) in members.iter_mut().enumerate() {
        member.tell(&format!("{rank} {addresses}"))?;
    }
    let mut first = None;
    for (rank, member) in members.iter_mut().enumerate() {
        let report = member
            .report()
            .with_context(|| format!("member {rank} did not measure"))?;
        first.get_or_insert(report);
    }
    first.context("there is no member")
}

impl Member {
    fn start(args: &Args, device: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["bench", "reduce", "--child"])
            .args(["--workers", &args.workers.to_string()])
            .args(["--device", device])
            .args(["--repeats", &args.repeats.to_string()])
            .args(["--parameters", &args.work.parameters().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a member")?;
        let said = child.stdout.take().context("a member has no output")?;
        Ok(Self {
            child,
            said: BufReader::new(said),
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// The standard input stays open: a member ends when it is closed.
    fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("a member has no input")?;
        writeln!(input, "{line}").context("a member has ended")
    }

    fn report(&mut self) -> Result<ReduceReport> {
        let mut text = String::new();
        self.said.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("its process ended with {status}; it says why above");
        }
        // NCCL says what NCCL_DEBUG asks for on the same stream.
        let report = text.lines().rev().find(|line| line.starts_with('{'));
        Ok(serde_json::from_str(report.unwrap_or(&text))?)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A member that another process started: says its address, hears everybody's with its own rank, and measures.
pub(super) fn child(args: &Args) -> Result<(), Failure> {
    let environment =
        |error: anyhow::Error| Failure::new(Exit::Environment, format_args!("{error:#}"));
    // Before the others hear of this member: how long a GPU takes to open is not how long it takes to form a ring.
    let memory = args.memory()?;
    let listener = RingListener::bind(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .map_err(|error| Failure::new(Exit::Environment, error))?;
    let _ = print::line(listener.address())?;
    let (rank, addresses) = told().map_err(environment)?;
    std::thread::spawn(end_with_stdin);
    let members = Members::of(listener, addresses, rank, FORM_WITHIN);
    let report = super::measure(members, memory, args)?;
    let text =
        serde_json::to_string(&report).map_err(|error| Failure::new(Exit::Internal, error))?;
    print::line(text).map(drop)
}

fn told() -> Result<(u32, Vec<SocketAddr>)> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let (rank, addresses) = line.trim().split_once(' ').context("no rank was told")?;
    let addresses = addresses.split(',').map(str::parse);
    Ok((rank.parse()?, addresses.collect::<Result<_, _>>()?))
}

/// A member never outlives who started it.
fn end_with_stdin() {
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    std::process::exit(Exit::Aborted as i32);
}
