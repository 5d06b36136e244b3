//! A network namespace of its own, with one cable to this machine's.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

/// A namespace and its cable; both go when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// This machine's address on the cable.
    pub outer_ip: String,
    /// The address within.
    pub inner_ip: String,
    outer: String,
    inner: String,
}

/// One end of the cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// This machine's.
    Outer,
    /// The namespace's.
    Inner,
}

impl Namespace {
    /// A namespace; `None`, said aloud, where this machine or its user cannot have one.
    #[must_use]
    pub fn create(test: &str) -> Option<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let [.., high, low] = pid.to_be_bytes();
        let net = format!("10.{}.{low}", 128 + high % 64);
        let namespace = Self {
            name: format!("weft-{pid}-{number}"),
            outer_ip: format!("{net}.{}", number * 4 + 1),
            inner_ip: format!("{net}.{}", number * 4 + 2),
            outer: format!("wf{}o{number}", pid % 1_000_000),
            inner: format!("wf{}i{number}", pid % 1_000_000),
        };
        if let Err(why) = namespace.build() {
            eprintln!(
                "SKIPPED {test}: no network namespace here, which takes root and iproute2 ({why})"
            );
            return None;
        }
        Some(namespace)
    }

    fn build(&self) -> Result<(), String> {
        let Self {
            name, outer, inner, ..
        } = self;
        let (outer_net, inner_net) = (self.outer_ip.clone() + "/30", self.inner_ip.clone() + "/30");
        let within = ["netns", "exec", name, "ip"];
        ip(&["netns", "add", name])?;
        ip(&["link", "add", outer, "type", "veth", "peer", "name", inner])?;
        ip(&["link", "set", inner, "netns", name])?;
        ip(&["address", "add", &outer_net, "dev", outer])?;
        ip(&["link", "set", outer, "up"])?;
        ip(&[&within[..], &["address", "add", &inner_net, "dev", inner]].concat())?;
        ip(&[&within[..], &["link", "set", inner, "up"]].concat())?;
        ip(&[&within[..], &["link", "set", "lo", "up"]].concat())
    }

    /// Lets the namespace reach another address of this machine.
    ///
    /// # Panics
    /// There can be no such route.
    pub fn reach(&self, ip_here: &str) {
        let arguments = ["netns", "exec", &self.name, "ip", "route", "add", ip_here];
        let route = [&arguments[..], &["via", &self.outer_ip]].concat();
        ip(&route).expect("a route over the cable");
    }

    /// Pulls the cable.
    ///
    /// # Panics
    /// It cannot be pulled.
    pub fn cut(&self) {
        self.set_link("down");
    }

    /// Plugs it in again.
    ///
    /// # Panics
    /// It cannot be.
    pub fn mend(&self) {
        self.set_link("up");
    }

    fn set_link(&self, state: &str) {
        let arguments = [
            "netns",
            "exec",
            &self.name,
            "ip",
            "link",
            "set",
            &self.inner,
            state,
        ];
        ip(&arguments).expect("the cable can be pulled and plugged in");
    }

    /// Drops whatever leaves `end`; false, said aloud, where the kernel cannot.
    #[must_use]
    pub fn drop_from(&self, end: End) -> bool {
        // A bucket that no packet fits into.
        let bucket = "tbf rate 8bit burst 1 latency 1ms";
        let done = self.qdisc(end, "add", bucket);
        if let Err(why) = &done {
            eprintln!("SKIPPED: this kernel drops no packets one way ({why})");
        }
        done.is_ok()
    }

    /// Lets everything through again.
    ///
    /// # Panics
    /// Nothing was dropped.
    pub fn let_through(&self, end: End) {
        self.qdisc(end, "del", "").expect("the queue is there");
    }

    fn qdisc(&self, end: End, deed: &str, kind: &str) -> Result<(), String> {
        let (place, device) = match end {
            End::Outer => (String::new(), &self.outer),
            End::Inner => (format!("ip netns exec {} ", self.name), &self.inner),
        };
        let line = format!("{place}tc qdisc {deed} dev {device} root {kind}");
        let words: Vec<&str> = line.split_whitespace().collect();
        run(words[0], &words[1..])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["link", "delete", &self.outer]);
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{program} {}: {}",
        arguments.join(" "),
        said.trim()
    ))
}
