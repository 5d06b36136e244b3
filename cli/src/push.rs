//! `weft push`: a folder to the Hugging Face hub.

use std::path::PathBuf;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use weft_common::byte_size::ByteSize;
use weft_common::hub::{
    DEFAULT_ENDPOINT, Endpoint, HubError, HubLimits, PushEvent, PushRequest, Pushed, RepoName,
    Token, Visibility, push,
};

use crate::exit::{Exit, Failure};
use crate::output::print;

/// Arguments of `weft push`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder: an adapter, or what `weft export` leaves
    folder: PathBuf,
    /// The repository, as NAME or OWNER/NAME; it is made where there is none
    #[arg(long, value_name = "NAME")]
    repo: RepoName,
    /// Only its owner sees the repository; this is the default
    #[arg(long, conflicts_with = "public")]
    private: bool,
    /// Everybody sees the repository
    #[arg(long)]
    public: bool,
    /// A file that holds the token [default: the variable HF_TOKEN, else the token of `huggingface-cli login`]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The commit's message
    #[arg(long, value_name = "TEXT", default_value = "Upload with weft")]
    message: String,
    /// The hub's address
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", default_value = DEFAULT_ENDPOINT)]
    endpoint: Endpoint,
}

/// Pushes, and prints where the folder is now.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let failed = |error: HubError| Failure::new(exit_of(&error), error);
    let env = |key: &str| std::env::var(key).ok();
    let token = Token::find(args.token_file.as_deref(), &env).map_err(failed)?;
    let visibility = match args.public {
        true => Visibility::Public,
        false => Visibility::Private,
    };
    let request = PushRequest {
        folder: &args.folder,
        repo: &args.repo,
        visibility,
        message: &args.message,
        endpoint: args.endpoint.clone(),
        token,
        limits: HubLimits::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Environment, error))?;
    let shown = Shown::default();
    let pushed = runtime.block_on(push(request, &|event| shown.event(event)));
    shown.bar.finish_and_clear();
    told(&pushed.map_err(failed)?)
}

fn exit_of(error: &HubError) -> Exit {
    match error {
        HubError::Refused { .. } | HubError::Public { .. } => Exit::Refused,
        HubError::Endpoint { .. }
        | HubError::Name { .. }
        | HubError::NoToken { .. }
        | HubError::File { .. }
        | HubError::Empty { .. }
        | HubError::Changed { .. }
        | HubError::Tls(_)
        | HubError::Unreachable { .. }
        | HubError::Answer { .. } => Exit::Environment,
    }
}

fn told(pushed: &Pushed) -> Result<(), Failure> {
    let Pushed {
        repo,
        commit,
        sent_bytes,
        files,
        unchanged,
    } = pushed;
    let Some((id, page)) = commit else {
        return print::line(format_args!(
            "{repo} has all {unchanged} files already; nothing was sent"
        ))
        .map(drop);
    };
    print::line(format_args!(
        "{files} files in {repo}, {unchanged} were there already, {} sent\ncommit {id}\n{page}",
        ByteSize(*sent_bytes)
    ))
    .map(drop)
}

/// What is shown meanwhile, on standard error.
struct Shown {
    bar: ProgressBar,
    length: Mutex<u64>,
}

impl Default for Shown {
    fn default() -> Self {
        let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {eta}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        // Hidden by itself where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        Self {
            bar: bar.with_style(style),
            length: Mutex::default(),
        }
    }
}

impl Shown {
    fn event(&self, event: PushEvent<'_>) {
        match event {
            PushEvent::Repository {
                name,
                created,
                private,
            } => {
                let made = if created { "made" } else { "found" };
                let seen = if private { "private" } else { "public" };
                print::error(format_args!("{made} the {seen} repository {name}"));
            }
            PushEvent::Present { name, .. } => print::error(format_args!("{name} is there")),
            PushEvent::Sending { name, bytes } => {
                let mut length = self
                    .length
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                *length += bytes;
                self.bar.set_length(*length);
                self.bar.set_message(name.to_owned());
                print::error(format_args!("sending {name}, {}", ByteSize(bytes)));
            }
            PushEvent::Sent { bytes } => self.bar.inc(bytes),
        }
    }
}
