//! Interfaces of this machine, and what NCCL is told of them by its variables.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

/// Which interfaces NCCL may use.
const CHOICE: &str = "NCCL_SOCKET_IFNAME";

/// An interface with an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Interface {
    name: String,
    addresses: Vec<IpAddr>,
    /// Whether NCCL takes it.
    nccl: bool,
}

/// Interfaces, and variables of NCCL that are set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Network {
    interfaces: Vec<Interface>,
    nccl_variables: BTreeMap<String, String>,
}

impl Network {
    /// This machine's.
    pub(super) fn look() -> Self {
        let found = if_addrs::get_if_addrs().unwrap_or_default();
        let addresses = found.into_iter().map(|found| {
            let ip = found.ip();
            (found.name, ip)
        });
        Self::of(addresses, std::env::vars())
    }

    fn of(
        addresses: impl Iterator<Item = (String, IpAddr)>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Self {
        let nccl_variables: BTreeMap<String, String> = variables
            .filter(|(name, _)| name.starts_with("NCCL_"))
            .collect();
        let mut by_name: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for (name, address) in addresses {
            by_name.entry(name).or_default().push(address);
        }
        let names: Vec<&str> = by_name.keys().map(String::as_str).collect();
        let chosen = chosen(nccl_variables.get(CHOICE).map(String::as_str), &names);
        let chosen: Vec<String> = chosen.into_iter().map(str::to_owned).collect();
        let interfaces = by_name.into_iter().map(|(name, addresses)| Interface {
            nccl: chosen.contains(&name),
            name,
            addresses,
        });
        Self {
            interfaces: interfaces.collect(),
            nccl_variables,
        }
    }

    /// A choice that leaves nothing.
    pub(super) fn warning(&self) -> Option<String> {
        let rule = self.nccl_variables.get(CHOICE)?;
        if self.interfaces.iter().any(|interface| interface.nccl) {
            return None;
        }
        let names: Vec<&str> = self.interfaces.iter().map(|of| of.name.as_str()).collect();
        Some(format!(
            "{CHOICE}={rule} names no interface of this machine, which has {}; NCCL will find no way to its peers",
            names.join(", ")
        ))
    }
}

/// The interfaces that NCCL takes: those whose name begins with one of a list; `^` before the list excludes them, and `=`
/// asks for whole names. Without a choice InfiniBand comes first, then all but the host's own, then Docker's, then loopback.
///
/// Source: NCCL's documentation of `NCCL_SOCKET_IFNAME`.
fn chosen<'a>(rule: Option<&str>, names: &[&'a str]) -> Vec<&'a str> {
    let select = |rule: &str| -> Vec<&'a str> {
        let (rest, excludes) = match rule.strip_prefix('^') {
            Some(rest) => (rest, true),
            None => (rule, false),
        };
        let (list, whole) = match rest.strip_prefix('=') {
            Some(list) => (list, true),
            None => (rest, false),
        };
        let is_listed = |name: &str| {
            let mut listed = list.split(',').filter(|listed| !listed.is_empty());
            listed.any(|listed| name == listed || (!whole && name.starts_with(listed)))
        };
        let names = names.iter().copied();
        names.filter(|name| is_listed(name) != excludes).collect()
    };
    match rule {
        Some(rule) if !rule.is_empty() => select(rule),
        Some(_) | None => {
            let mut tries = ["ib", "^docker,lo", "docker", "lo"].into_iter().map(select);
            tries.find(|names| !names.is_empty()).unwrap_or_default()
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for interface in &self.interfaces {
            let addresses: Vec<String> = interface
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect();
            let nccl = if interface.nccl { "  (NCCL)" } else { "" };
            writeln!(
                f,
                "{:<9}{}  {}{nccl}",
                "network",
                interface.name,
                addresses.join(", ")
            )?;
        }
        for (name, value) in &self.nccl_variables {
            writeln!(f, "{:<9}{name}={value}", "variable")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["docker0", "eth0", "eth1", "ib0", "lo"];

    #[test]
    fn nccls_own_choice_prefers_infiniband_and_leaves_loopback_to_the_last() {
        assert_eq!(chosen(None, &NAMES), ["ib0"]);
        assert_eq!(chosen(None, &["docker0", "eth0", "lo"]), ["eth0"]);
        assert_eq!(chosen(Some(""), &["docker0", "lo"]), ["docker0"]);
        assert_eq!(chosen(None, &["lo"]), ["lo"]);
    }

    #[test]
    fn a_rule_has_prefixes_whole_names_and_exclusions() {
        let chosen = |rule| chosen(Some(rule), &NAMES);
        assert_eq!(chosen("eth"), ["eth0", "eth1"]);
        assert_eq!(chosen("eth0,ib"), ["eth0", "ib0"]);
        assert_eq!(chosen("=eth"), [""; 0]);
        assert_eq!(chosen("=eth1"), ["eth1"]);
        assert_eq!(chosen("^docker,lo,ib"), ["eth0", "eth1"]);
        assert_eq!(chosen("^=eth0"), ["docker0", "eth1", "ib0", "lo"]);
    }

    fn network(rule: &str) -> Network {
        let addresses = [
            ("lo", "127.0.0.1"),
            ("eth0", "10.0.0.7"),
            ("eth0", "fe80::1"),
        ];
        let addresses = addresses.map(|(name, ip)| (name.to_owned(), ip.parse().unwrap()));
        let variables = [
            ("NCCL_SOCKET_IFNAME", rule),
            ("NCCL_DEBUG", "INFO"),
            ("HOME", "/"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Network::of(addresses.into_iter(), variables.into_iter())
    }

    #[test]
    fn interfaces_and_variables_of_nccl_are_shown() {
        assert_eq!(
            network("eth").to_string(),
            "network  eth0  10.0.0.7, fe80::1  (NCCL)\n\
             network  lo  127.0.0.1\n\
             variable NCCL_DEBUG=INFO\n\
             variable NCCL_SOCKET_IFNAME=eth\n"
        );
        assert_eq!(network("eth").warning(), None);
    }

    #[test]
    fn a_rule_that_selects_nothing_is_warned_of() {
        let warning = network("enp3").warning().unwrap();
        for part in ["NCCL_SOCKET_IFNAME=enp3", "eth0, lo"] {
            assert!(warning.contains(part), "{warning}");
        }
    }
}
