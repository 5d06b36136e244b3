//! Whether others can be reached: a coordinator, and other workers' machines.

use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::{CoordinatorUrl, probe};

/// A machine that does not answer in this time is not there for a worker either.
const WITHIN: Duration = Duration::from_secs(3);

/// Whether someone could be reached.
#[derive(Debug, Serialize)]
pub(super) struct Reached {
    /// Who, as they were named.
    who: String,
    /// Where that is, where it is known.
    address: Option<SocketAddr>,
    /// How long it took, where it worked.
    millis: Option<f64>,
    /// What they said.
    says: Option<String>,
    /// What failed, and what to look at.
    error: Option<String>,
}

impl Reached {
    /// Makes a TCP connection to `host:port`, and ends it.
    pub(super) fn peer(who: &str) -> Self {
        let tried = resolve(who).and_then(|addresses| connect(&addresses));
        match tried {
            Ok((address, time)) => Self {
                who: who.to_owned(),
                address: Some(address),
                millis: Some(time.as_secs_f64() * 1e3),
                says: None,
                error: None,
            },
            Err(error) => Self::failed(who, error),
        }
    }

    /// Asks a coordinator for its version.
    pub(super) fn coordinator(url: &CoordinatorUrl) -> Self {
        let who = url.to_string();
        let start = Instant::now();
        match probe::ask(url) {
            Ok(answer) => {
                let own = env!("CARGO_PKG_VERSION");
                let differs = answer.version != own;
                let error = differs.then(|| {
                    format!(
                        "the coordinator is weft {}, this is {own}; workers of another version are refused",
                        answer.version
                    )
                });
                Self {
                    who,
                    address: None,
                    millis: Some(start.elapsed().as_secs_f64() * 1e3),
                    says: Some(format!(
                        "weft {}, {} workers",
                        answer.version, answer.workers
                    )),
                    error,
                }
            }
            Err(failure) => Self::failed(&who, failure.text()),
        }
    }

    fn failed(who: &str, error: String) -> Self {
        Self {
            who: who.to_owned(),
            address: None,
            millis: None,
            says: None,
            error: Some(error),
        }
    }

    /// What failed.
    pub(super) fn error(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        Some(format!("{}: {error}", self.who))
    }
}

fn resolve(who: &str) -> Result<Vec<SocketAddr>, String> {
    let port = who.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) {
        return Err("this is no HOST:PORT, as in 10.0.0.8:7117".to_owned());
    }
    match who.to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(format!(
            "the name has no address: {error}; see /etc/hosts and the DNS"
        )),
    }
}

/// To the first address that answers.
fn connect(addresses: &[SocketAddr]) -> Result<(SocketAddr, Duration), String> {
    let mut why = "the name has no address".to_owned();
    for address in addresses {
        let start = Instant::now();
        match TcpStream::connect_timeout(address, WITHIN) {
            Ok(_) => return Ok((*address, start.elapsed())),
            Err(error) => {
                let (ip, port, seconds) = (address.ip(), address.port(), WITHIN.as_secs());
                why = match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => {
                        format!("{ip} is there, but nobody listens on port {port}")
                    }
                    std::io::ErrorKind::TimedOut => format!(
                        "{ip} does not answer within {seconds} s; a firewall may swallow the connection"
                    ),
                    _ => format!("no connection to {ip}: {error}"),
                };
            }
        }
    }
    Err(why)
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}{}", "reach", self.who)?;
        if let Some(address) = self
            .address
            .filter(|address| address.to_string() != self.who)
        {
            write!(f, " at {address}")?;
        }
        if let Some(millis) = self.millis {
            write!(f, ", {millis:.1} ms")?;
        }
        if let Some(says) = &self.says {
            write!(f, ", {says}")?;
        }
        match &self.error {
            Some(error) => writeln!(f, ": {error}"),
            None => writeln!(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_reached_and_its_port_refuses_once_it_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reached = Reached::peer(&address.to_string());
        assert_eq!((reached.address, reached.error()), (Some(address), None));
        drop(listener);

        let refused = Reached::peer(&address.to_string()).error().unwrap();
        assert!(refused.contains("nobody listens"), "{refused}");
    }

    #[test]
    fn what_is_no_address_is_told() {
        let refused = Reached::peer("node-7").error().unwrap();
        assert!(refused.contains("HOST:PORT"), "{refused}");
        let unknown = Reached::peer("no-such-host.invalid:7117").to_string();
        assert!(
            unknown.starts_with("reach    no-such-host.invalid:7117: "),
            "{unknown}"
        );
    }
}
