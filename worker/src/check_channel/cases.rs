//! The cases, each named by the message that it is about and what may go wrong with it.

mod cancel;
mod ends;
mod hello;
mod jobs;
mod others;

use std::pin::Pin;

use super::peer::{Peer, Trouble};

/// One case.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) message: &'static str,
    pub(super) what: &'static str,
    pub(super) run: Run,
}

type Run = for<'a> fn(&'a mut Peer) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;
type Outcome = Result<(), Trouble>;

/// `message, "what" => function;`
macro_rules! cases {
    ($($message:ident, $what:literal => $function:ident;)*) => {
        pub(super) const CASES: &[super::Case] = &[
            $(super::Case {
                message: stringify!($message),
                what: $what,
                run: |peer| Box::pin($function(peer)),
            },)*
        ];
    };
}
use cases;

/// All cases, in the order in which they are reported.
pub(super) fn all() -> Vec<Case> {
    [hello::CASES, jobs::CASES, others::CASES, cancel::CASES, ends::CASES].concat()
}
