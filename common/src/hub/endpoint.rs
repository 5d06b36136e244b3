//! Where the hub is, and what repositories are called there.

use std::fmt;
use std::str::FromStr;

use http::Uri;

use super::HubError;

/// The hub that everybody means.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The hub's address, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    base: String,
    authority: String,
}

impl Endpoint {
    /// The address of `path` there.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// Whether an address lies there, so that the token may be shown.
    pub(super) fn holds(&self, address: &Uri) -> bool {
        let scheme = address.scheme_str().unwrap_or_default();
        self.base.starts_with(&format!("{scheme}://"))
            && address
                .authority()
                .is_some_and(|authority| authority.as_str() == self.authority)
    }
}

impl FromStr for Endpoint {
    type Err = HubError;

    /// A token must not go over a network unencrypted, so plain HTTP is for this machine alone.
    fn from_str(text: &str) -> Result<Self, HubError> {
        let refused = |problem| HubError::Endpoint {
            address: text.to_owned(),
            problem,
        };
        let base = text.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| refused("is no address"))?;
        let authority = uri.authority().ok_or_else(|| refused("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refused("holds a user or a password"));
        }
        let host = authority.host().trim_matches(['[', ']']);
        let here = host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if here => {}
            Some("http") => return Err(refused("is not encrypted; it must begin with https://")),
            _ => return Err(refused("must begin with https://")),
        }
        Ok(Self {
            base: base.to_owned(),
            authority: authority.as_str().to_owned(),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

/// `NAME` or `OWNER/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoName {
    pub(super) owner: Option<String>,
    pub(super) name: String,
}

impl FromStr for RepoName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let part = |part: &str| {
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let edge = |c: char| "-.".contains(c);
            (1..=96).contains(&part.len())
                && part.chars().all(legal)
                && !part.starts_with(edge)
                && !part.ends_with(edge)
                && !part.contains("..")
                && !part.contains("--")
        };
        let (owner, name) = match text.split_once('/') {
            Some((owner, name)) => (Some(owner), name),
            None => (None, text),
        };
        if !part(name) || owner.is_some_and(|owner| !part(owner)) {
            return Err(HubError::Name {
                name: text.to_owned(),
            });
        }
        Ok(Self {
            owner: owner.map(str::to_owned),
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for text in [
            "https://huggingface.co/",
            "http://127.0.0.1:80",
            "http://localhost",
            "http://[::1]:9",
        ] {
            assert!(text.parse::<Endpoint>().is_ok(), "{text}");
        }
        for text in [
            "http://hub.example",
            "ftp://x",
            "hub",
            "https://me:pw@hub.example",
            "",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_token_is_shown_to_the_hub_and_to_nobody_else() {
        let hub: Endpoint = "https://hub.example".parse().unwrap();
        let holds = |text: &str| hub.holds(&text.parse().unwrap());
        assert!(holds("https://hub.example/api"));
        assert!(!holds("https://s3.example/x") && !holds("http://hub.example/api"));
        assert!(!holds("https://hub.example:444/") && !holds("https://hub.example.evil/"));
    }

    #[test]
    fn names_that_are_paths_or_options_are_refused() {
        let named = |text: &str| text.parse::<RepoName>();
        assert_eq!(
            named("me/my-model.v2").unwrap().owner.as_deref(),
            Some("me")
        );
        assert_eq!(named("model").unwrap().owner, None);
        for text in ["", "a/b/c", "../x", "a/..", "-a", "a b", "a/b?c", "a--b"] {
            assert!(named(text).is_err(), "{text}");
        }
    }
}
