//! How the coordinator is reached, how long its answers may take, and what is said when they do not come.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status};
use weft_proto::v1::control_client::ControlClient;

use crate::exit::{Exit, Failure};

/// Where `weft coordinator` listens if nobody says otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:7117";
const DEFAULT_PORT: u16 = 7117;

/// Of a call that the coordinator answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A machine that does not answer is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A coordinator that hangs is noticed by a stream after the sum of both.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(5);
const SIGN_OF_LIFE_WITHIN: Duration = Duration::from_secs(15);

/// Tens of thousands of jobs.
const REPLY_BYTES: usize = 64 << 20;
/// A refusal travels in a header: room for many problems of a recipe.
const REFUSAL_BYTES: u32 = 1 << 20;

/// Which coordinator, and how patiently.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConnectArgs {
    /// The coordinator, as in `http://10.0.0.1:7117`
    #[arg(long, value_name = "URL", env = "WEFT_COORDINATOR", default_value = DEFAULT_URL)]
    coordinator: CoordinatorUrl,
    /// Seconds that the coordinator may take to answer [default: 10, and 600 to look at a submitted job]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
}

/// `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CoordinatorUrl(Uri);

impl FromStr for CoordinatorUrl {
    type Err = String;

    /// Takes `host`, `host:port` and `http://host:port/` as well.
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |why: &str| format!("{why}; give it as in http://10.0.0.1:{DEFAULT_PORT}");
        if text.starts_with("https://") {
            return Err(refused("connections to a coordinator are not encrypted"));
        }
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let authority = bare.strip_suffix('/').unwrap_or(bare);
        let parse = |authority: &str| {
            let builder = Uri::builder().scheme("http").authority(authority);
            builder.path_and_query("/").build()
        };
        let parsed = match parse(authority) {
            Ok(uri) if uri.port().is_none() => parse(&format!("{authority}:{DEFAULT_PORT}")),
            parsed => parsed,
        };
        match parsed {
            Ok(uri) if uri.port_u16().is_some() && uri.host().is_some_and(|h| !h.is_empty()) => {
                Ok(Self(uri))
            }
            Ok(_) | Err(_) => Err(refused("this is no address of a coordinator")),
        }
    }
}

impl fmt::Display for CoordinatorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self
            .0
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(f, "http://{authority}")
    }
}

impl CoordinatorUrl {
    /// Whether the coordinator is on this machine, so that its folders are the ones that are seen here.
    pub(crate) fn is_here(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || ip
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }
}

/// A coordinator that answered once.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// Where it is.
    pub(super) url: CoordinatorUrl,
    /// For calls without a deadline of their own: streams.
    pub(super) client: ControlClient<Channel>,
    answer_within: Duration,
}

/// What a call is about, for whom it does not find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About<'a> {
    /// This job, in the user's words.
    Job(&'a str),
    /// This worker, in the user's words.
    Worker(&'a str),
    /// A job that is handed in.
    Submission,
    /// All there is.
    Everything,
}

impl ConnectArgs {
    /// The coordinator at `url`, with the usual patience.
    pub(super) fn to(url: CoordinatorUrl) -> Self {
        Self {
            coordinator: url,
            timeout: None,
        }
    }

    /// Which coordinator.
    pub(super) fn url(&self) -> &CoordinatorUrl {
        &self.coordinator
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody answers.
    pub(super) async fn open(&self) -> Result<Connection, Failure> {
        self.open_patiently(ANSWER_WITHIN).await
    }

    /// Connects; calls may take `answer_within` where the user did not say otherwise.
    ///
    /// # Errors
    /// Nobody answers.
    pub(super) async fn open_patiently(
        &self,
        answer_within: Duration,
    ) -> Result<Connection, Failure> {
        let answer_within = self.timeout.map_or(answer_within, Duration::from_secs);
        let endpoint = Endpoint::from(self.coordinator.0.clone())
            .connect_timeout(CONNECT_WITHIN.min(answer_within))
            .http2_keep_alive_interval(SIGN_OF_LIFE_EVERY)
            .keep_alive_timeout(SIGN_OF_LIFE_WITHIN)
            .http2_max_header_list_size(REFUSAL_BYTES)
            .tcp_nodelay(true);
        let connected = tokio::time::timeout(answer_within, endpoint.connect()).await;
        let why = match connected {
            Ok(Ok(channel)) => {
                return Ok(Connection {
                    url: self.coordinator.clone(),
                    client: ControlClient::new(channel).max_decoding_message_size(REPLY_BYTES),
                    answer_within,
                });
            }
            Ok(Err(error)) => innermost(&error),
            Err(_) => format!("no answer within {} s", answer_within.as_secs()),
        };
        Err(unreachable(&self.coordinator, &why))
    }
}

impl Connection {
    /// How long an answer may take.
    pub(super) fn answer_within(&self) -> Duration {
        self.answer_within
    }

    /// The answer to a call.
    ///
    /// # Errors
    /// There is none in time, or it is a refusal.
    pub(super) async fn answer<T>(
        &self,
        about: About<'_>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.answer_within, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(about, &status)),
            Err(_) => Err(self.too_late(about)),
        }
    }

    /// The next message of a stream that does not wait for anything to happen.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub(super) async fn next<T>(
        &self,
        about: About<'_>,
        stream: &mut tonic::Streaming<T>,
    ) -> Result<Option<T>, Failure> {
        match tokio::time::timeout(self.answer_within, stream.message()).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(status)) => Err(self.failure(about, &status)),
            Err(_) => Err(self.too_late(about)),
        }
    }

    /// The one place where a status becomes a failure.
    pub(super) fn failure(&self, about: About<'_>, status: &Status) -> Failure {
        let (url, said) = (&self.url, words(status));
        match status.code() {
            Code::NotFound => Failure::new(Exit::Refused, self.not_found(about, said)),
            Code::InvalidArgument if about == About::Submission => {
                Failure::new(exit_of(status).unwrap_or(Exit::Recipe), said)
            }
            Code::InvalidArgument
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unauthenticated => Failure::new(Exit::Refused, said),
            Code::ResourceExhausted => Failure::new(Exit::Environment, said),
            Code::Unimplemented => Failure::new(
                Exit::Refused,
                format_args!(
                    "the coordinator at {url} does not offer this ({said}); it needs `weft coordinator` without a recipe, \
                     of the same version as this weft, {}",
                    env!("CARGO_PKG_VERSION")
                ),
            ),
            Code::Ok
            | Code::Unavailable
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Unknown
            | Code::Internal
            | Code::DataLoss
                if is_broken(status) =>
            {
                self.broken(about, &said)
            }
            Code::Ok | Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
                Failure::new(
                    Exit::Internal,
                    format_args!("the coordinator at {url} failed: {said}; see its log"),
                )
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => Failure::new(
                Exit::Environment,
                format_args!("the coordinator at {url} cannot answer now: {said}; try again"),
            ),
        }
    }

    fn not_found(&self, about: About<'_>, said: String) -> String {
        let url = &self.url;
        match about {
            About::Job(job) => format!(
                "no job {job} on the coordinator at {url}; `weft jobs --all` shows those there are"
            ),
            About::Worker(worker) => format!(
                "no worker {worker} on the coordinator at {url}; `weft workers` shows those there are"
            ),
            About::Submission | About::Everything => said,
        }
    }

    fn broken(&self, about: About<'_>, why: &str) -> Failure {
        let remedy = match about {
            About::Submission => "`weft jobs` shows whether it took the job",
            About::Job(_) | About::Worker(_) | About::Everything => "see whether it runs",
        };
        let text = format!(
            "the connection to the coordinator at {} ended: {why}; {remedy}",
            self.url
        );
        Failure::new(Exit::Environment, text)
    }

    fn too_late(&self, about: About<'_>) -> Failure {
        let (url, seconds) = (&self.url, self.answer_within.as_secs());
        let remedy = match about {
            About::Submission => {
                "`weft jobs` shows whether it took the job; allow more with --timeout"
            }
            About::Job(_) | About::Worker(_) | About::Everything => {
                "see whether it hangs, or allow more with --timeout"
            }
        };
        Failure::new(
            Exit::Environment,
            format_args!("the coordinator at {url} did not answer within {seconds} s; {remedy}"),
        )
    }
}

/// Whether a status tells of a connection that is gone, so that asking again may help.
pub(super) fn is_broken(status: &Status) -> bool {
    use std::error::Error;
    let by_transport = status.source().is_some();
    by_transport || matches!(status.code(), Code::Unavailable | Code::Cancelled)
}

/// Whether a coordinator says that it has no records of jobs: one that runs a single recipe.
pub(super) fn keeps_no_records(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unimplemented | Code::FailedPrecondition
    )
}

/// A status in words: its message, or what the transport said.
pub(super) fn words(status: &Status) -> String {
    use std::error::Error;
    match (status.source(), status.message()) {
        (Some(source), _) => innermost(source),
        (None, "") => status.code().description().to_lowercase(),
        (None, message) => message.to_owned(),
    }
}

/// The code that the same problems have where the recipe is run at once.
fn exit_of(status: &Status) -> Option<Exit> {
    match status.metadata().get("weft-problem")?.to_str().ok()? {
        "recipe" => Some(Exit::Recipe),
        "data" => Some(Exit::Data),
        "model" => Some(Exit::Model),
        "environment" => Some(Exit::Environment),
        "internal" => Some(Exit::Internal),
        _ => None,
    }
}

fn unreachable(url: &CoordinatorUrl, why: &str) -> Failure {
    Failure::new(
        Exit::Environment,
        format_args!(
            "no coordinator at {url}: {why}; start one with `weft coordinator`, or say where it is with --coordinator or \
             WEFT_COORDINATOR"
        ),
    )
}

/// A transport error's own words say nothing; its causes do.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// A reference to a job, in the user's words.
pub(super) fn job_ref(job: &str) -> weft_proto::v1::JobRef {
    weft_proto::v1::JobRef { id: job.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<String, String> {
        text.parse::<CoordinatorUrl>().map(|url| url.to_string())
    }

    #[test]
    fn an_address_may_be_short() {
        for text in [
            "10.0.0.1",
            "10.0.0.1:7117",
            "http://10.0.0.1",
            "http://10.0.0.1:7117/",
        ] {
            assert_eq!(url(text).as_deref(), Ok("http://10.0.0.1:7117"), "{text}");
        }
        assert_eq!(url("[::1]:80").as_deref(), Ok("http://[::1]:80"));
    }

    #[test]
    fn what_is_no_address_is_told_with_an_example() {
        for text in [
            "",
            "http://",
            "a b",
            "host:port",
            "https://host:1",
            "http://host/path",
        ] {
            let told = url(text).expect_err(text);
            assert!(told.contains("http://10.0.0.1:7117"), "{text}: {told}");
        }
    }

    #[test]
    fn only_loopback_is_this_machine() {
        let here = |text: &str| text.parse::<CoordinatorUrl>().unwrap().is_here();
        assert!(here("localhost") && here("127.3.4.5:1") && here("[::1]"));
        assert!(!here("10.0.0.1") && !here("localhost.example"));
    }
}
