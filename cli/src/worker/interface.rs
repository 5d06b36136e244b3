//! Over which of the machine's interfaces others reach a worker.

#![allow(
    unsafe_code,
    reason = "a change of the environment, before the first thread"
)]

use std::net::{IpAddr, Ipv4Addr};

/// Which interfaces NCCL may use.
const CHOICE: &str = "NCCL_SOCKET_IFNAME";

/// Where others reach a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// What it listens on.
    pub(super) listen_ip: IpAddr,
    /// What the coordinator sees it come from, and tells others, where that was chosen.
    pub(super) from_ip: Option<IpAddr>,
}

impl Place {
    /// On this address, whatever the coordinator sees.
    pub(super) fn at(listen_ip: IpAddr) -> Self {
        Self {
            listen_ip,
            from_ip: None,
        }
    }

    /// Where nobody chose: peers of a coordinator on this machine are here as well.
    pub(super) fn usual(coordinator_is_here: bool) -> Self {
        Self::at(if coordinator_is_here {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        })
    }

    /// On an interface of this machine.
    ///
    /// # Errors
    /// There is none of that name, it has no address, or the coordinator cannot be reached from it.
    pub(super) fn on(interface: &str, coordinator_is_here: bool) -> Result<Self, String> {
        let found = if_addrs::get_if_addrs()
            .map_err(|error| format!("cannot list this machine's interfaces: {error}"))?;
        let found: Vec<(String, IpAddr)> = found
            .into_iter()
            .map(|found| {
                let ip = found.ip();
                (found.name, ip)
            })
            .collect();
        let ip = address(interface, &found)?;
        if coordinator_is_here && !ip.is_loopback() {
            return Err(format!(
                "--interface {interface} has {ip}, from which no coordinator on loopback is reached; give --coordinator the \
                 address that other machines reach it at"
            ));
        }
        Ok(Self {
            listen_ip: ip,
            from_ip: Some(ip),
        })
    }
}

/// The first address of an interface, one of IPv4 before others: NCCL prefers them too. None that is of this link alone.
fn address(interface: &str, found: &[(String, IpAddr)]) -> Result<IpAddr, String> {
    let own = found.iter().filter(|(name, _)| name == interface);
    let mut addresses: Vec<IpAddr> = own
        .map(|(_, ip)| *ip)
        .filter(|ip| !is_link_local(ip))
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| {
        let mut names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        format!(
            "--interface {interface} is no interface with an address; this machine has {}",
            names.join(", ")
        )
    })
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Lets NCCL use this interface alone, unless the environment says which.
///
/// Must be called before the process has a second thread.
pub(super) fn tell_nccl(interface: &str) {
    if std::env::var_os(CHOICE).is_none() {
        // SAFETY: no other thread reads the environment, because there is none yet.
        unsafe { std::env::set_var(CHOICE, format!("={interface}")) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Vec<(String, IpAddr)> {
        let found = [
            ("lo", "127.0.0.1"),
            ("eth0", "fe80::1"),
            ("eth0", "2001:db8::7"),
            ("eth0", "10.0.0.7"),
            ("ib0", "fe80::2"),
        ];
        found
            .map(|(name, ip)| (name.to_owned(), ip.parse().unwrap()))
            .to_vec()
    }

    #[test]
    fn an_interface_stands_for_its_first_address_that_others_reach() {
        assert_eq!(address("eth0", &found()).unwrap().to_string(), "10.0.0.7");
    }

    #[test]
    fn an_interface_that_is_not_there_is_refused_with_those_that_are() {
        for name in ["eth", "ib0"] {
            let refused = address(name, &found()).unwrap_err();
            assert!(
                refused.contains(name) && refused.contains("eth0, ib0, lo"),
                "{refused}"
            );
        }
    }

    #[test]
    fn without_a_choice_a_worker_listens_where_its_peers_are() {
        assert!(Place::usual(true).listen_ip.is_loopback());
        assert!(Place::usual(false).listen_ip.is_unspecified());
    }
}
