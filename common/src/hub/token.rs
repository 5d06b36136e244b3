//! The token that says who pushes.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use http::HeaderValue;

use super::HubError;

/// A token of the hub. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token; spaces around it are no part of it.
    ///
    /// # Errors
    /// It cannot be a token, which is said without its text.
    pub fn new(text: &str, origin: &str) -> Result<Self, HubError> {
        let text = text.trim();
        let problem = |problem: &str| HubError::NoToken {
            problem: format!("{origin} {problem}"),
        };
        if text.is_empty() {
            return Err(problem("is empty"));
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(problem("holds more than one token"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Finds the token as Hugging Face's tools do: in `file` where one is named, else in `HF_TOKEN`, else where their login
    /// keeps it. `env` looks up a variable.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn find(
        file: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, HubError> {
        let read = |path: &Path| {
            let text = fs::read_to_string(path).map_err(|source| HubError::File {
                path: path.to_owned(),
                source,
            })?;
            Self::new(&text, &path.display().to_string())
        };
        if let Some(path) = file {
            return read(path);
        }
        let set = |key: &str| env(key).filter(|value| !value.is_empty());
        if let Some(text) = set("HF_TOKEN") {
            return Self::new(&text, "HF_TOKEN");
        }
        let home = set("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache/huggingface")));
        match home
            .map(|home| home.join("token"))
            .filter(|path| path.is_file())
        {
            Some(path) => read(&path),
            None => Err(HubError::NoToken {
                problem: "there is no token for the hub".to_owned(),
            }),
        }
    }

    /// The header that shows it, marked so that nothing prints it.
    pub(super) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0))
            .expect("a token is visible ASCII, which was checked when it was taken");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_before_the_variable_and_that_before_the_login() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine");
        fs::write(&file, "hf_file\n").unwrap();
        fs::write(folder.path().join("token"), "hf_login").unwrap();
        let home = folder.path().display().to_string();
        let both = |key: &str| match key {
            "HF_TOKEN" => Some("hf_env".to_owned()),
            "HF_HOME" => Some(home.clone()),
            _ => None,
        };
        let login = |key: &str| both(key).filter(|_| key == "HF_HOME");
        assert_eq!(Token::find(Some(&file), &both).unwrap().0, "hf_file");
        assert_eq!(Token::find(None, &both).unwrap().0, "hf_env");
        assert_eq!(Token::find(None, &login).unwrap().0, "hf_login");
        let none = Token::find(None, &|_| None).unwrap_err().to_string();
        assert!(
            none.contains("--token-file") && none.contains("HF_TOKEN"),
            "{none}"
        );
    }

    #[test]
    fn a_token_is_never_shown() {
        let token = Token::new(" hf_secret ", "HF_TOKEN").unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("secret"));
        for bad in ["", "hf_secret\nhf_other", "hf secret"] {
            let refused = Token::new(bad, "HF_TOKEN").unwrap_err();
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
    }
}
