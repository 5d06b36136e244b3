//! What is done when the coordinator goes away while something is followed: it is looked for again, with growing pauses,
//! until a deadline, and what follows goes on after the last thing that was seen.

use std::time::{Duration, Instant};

use tonic::{Response, Status, Streaming};

use super::connect::{About, Connection, is_broken, keeps_no_records, words};
use crate::exit::{Exit, Failure};

/// Between attempts, at first …
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// … and at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Something that is followed over a connection that may end.
pub(super) trait Following {
    /// What it comes to.
    type End;

    /// Follows over one connection, from where the last one ended.
    async fn session(&mut self) -> Result<Self::End, Broken>;

    /// Who is asked.
    fn connection(&self) -> &Connection;

    /// How long it is looked for.
    fn patience(&mut self) -> &mut Patience;

    /// Tells people beside what they see.
    fn say(&self, text: &str);

    /// Notes that the coordinator answers; tells people if it had not.
    fn heard(&mut self) {
        if self.patience().heard() {
            let url = self.connection().url.clone();
            self.say(&format!("the coordinator at {url} answers again"));
        }
    }
}

/// Why a session ended before the end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection is gone; another one may do.
    Lost(String),
    /// Nothing will help.
    Final(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

/// How long a coordinator that went away is looked for, and how often.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    within: Duration,
    lost_since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    /// Patience for one absence of at most `within`.
    pub(super) fn new(within: Duration) -> Self {
        Self {
            within,
            lost_since: None,
            pause: FIRST_PAUSE,
        }
    }

    /// The coordinator answers; whether it had not.
    fn heard(&mut self) -> bool {
        self.pause = FIRST_PAUSE;
        self.lost_since.take().is_some()
    }

    /// An attempt ended: the pause before the next one, or `None` where patience is at its end.
    fn lost(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.lost_since.get_or_insert(now);
        let left = self.within.checked_sub(now.duration_since(since))?;
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        (!left.is_zero()).then_some(pause)
    }

    fn is_first_loss(&self) -> bool {
        self.lost_since.is_none()
    }
}

/// Follows to the end, over as many connections as that takes.
///
/// # Errors
/// The coordinator stays away, or refuses.
pub(super) async fn to_the_end<F: Following>(followed: &mut F) -> Result<F::End, Failure> {
    loop {
        let why = match followed.session().await {
            Ok(end) => return Ok(end),
            Err(Broken::Final(failure)) => return Err(failure),
            Err(Broken::Lost(why)) => why,
        };
        let url = followed.connection().url.clone();
        let within = followed.patience().within.as_secs();
        if followed.patience().is_first_loss() && within > 0 {
            followed.say(&format!(
                "the coordinator at {url} went away ({why}); looking for it for {within} s"
            ));
        }
        let Some(pause) = followed.patience().lost(Instant::now()) else {
            return Err(Failure::new(
                Exit::Environment,
                format_args!(
                    "the coordinator at {url} went away and did not come back within {within} s: {why}; jobs go on where \
                     it ended once it is started again; look longer with --reconnect-within"
                ),
            ));
        };
        tokio::time::sleep(pause).await;
    }
}

/// An opened stream.
pub(super) async fn opened<T>(
    connection: &Connection,
    about: About<'_>,
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
) -> Result<Streaming<T>, Broken> {
    match tokio::time::timeout(connection.answer_within(), call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(ended(connection, about, &status)),
        Err(_) => Err(Broken::Lost("it does not answer".to_owned())),
    }
}

/// As [`opened`]; nothing where the coordinator keeps no records.
pub(super) async fn opened_if_kept<T>(
    connection: &Connection,
    about: About<'_>,
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
) -> Result<Option<Streaming<T>>, Broken> {
    match tokio::time::timeout(connection.answer_within(), call).await {
        Ok(Ok(response)) => Ok(Some(response.into_inner())),
        Ok(Err(status)) if keeps_no_records(&status) => Ok(None),
        Ok(Err(status)) => Err(ended(connection, about, &status)),
        Err(_) => Err(Broken::Lost("it does not answer".to_owned())),
    }
}

/// What the status means for what is followed.
pub(super) fn ended(connection: &Connection, about: About<'_>, status: &Status) -> Broken {
    if is_broken(status) {
        Broken::Lost(words(status))
    } else {
        Broken::Final(connection.failure(about, status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_at_the_deadline() {
        let mut patience = Patience::new(Duration::from_secs(3));
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let ms = |pause: Option<Duration>| pause.map(|pause| pause.as_millis());

        assert_eq!(ms(patience.lost(after(0))), Some(250));
        assert_eq!(ms(patience.lost(after(250))), Some(500));
        assert_eq!(
            ms(patience.lost(after(2_900))),
            Some(100),
            "never past the deadline"
        );
        assert_eq!(ms(patience.lost(after(3_000))), None);
    }

    #[test]
    fn who_came_back_is_looked_for_as_long_again() {
        let mut patience = Patience::new(Duration::from_secs(3));
        let start = Instant::now();
        assert!(!patience.heard(), "it was never away");
        patience.lost(start);
        patience.lost(start + Duration::from_secs(2));

        assert!(patience.heard());

        let later = start + Duration::from_secs(60);
        assert_eq!(patience.lost(later), Some(FIRST_PAUSE));
    }
}
