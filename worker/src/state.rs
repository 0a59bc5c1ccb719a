//! What handlers share: a connection pool, a client, a loaded model.
//!
//! There is no registry of values by type: a handler that asks for a state that nobody created does not compile.

use crate::JobContext;

/// Gives a handler shared state, as its first argument: every job gets a clone. Usually an [`Arc`](std::sync::Arc), or
/// a type whose clones share something, as connection pools do.
///
/// It works for every constructor: [`Task::new`], [`Task::blocking`], [`Task::raw`] and [`Task::raw_blocking`].
///
/// ```
/// use std::sync::Arc;
///
/// use crunch_worker::testing::Attempt;
/// use crunch_worker::{JobContext, Task, TaskError, with_state};
///
/// struct App {
///     rates: Vec<(String, f64)>,
/// }
///
/// /// Converts an amount to euros.
/// async fn convert(
///     app: Arc<App>,
///     _job: JobContext,
///     (amount, currency): (f64, String),
/// ) -> Result<f64, TaskError> {
///     let rate = app.rates.iter().find(|(name, _)| *name == currency);
///     let (_, rate) = rate.ok_or_else(|| TaskError::permanent("unknown currency"))?;
///     Ok(amount * rate)
/// }
///
/// impl App {
///     /// Methods are handlers too.
///     fn currencies(self: Arc<Self>, _job: JobContext, (): ()) -> Result<usize, TaskError> {
///         Ok(self.rates.len())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let app = Arc::new(App { rates: vec![("SEK".to_owned(), 0.09)] });
/// let convert = Task::new("rates.convert", with_state(&app, convert));
/// let currencies = Task::blocking("rates.currencies", with_state(&app, App::currencies));
///
/// assert_eq!(Attempt::of(convert).payload((100, "SEK")).run().await.json::<f64>(), 9.0);
/// assert_eq!(Attempt::of(currencies).run().await.json::<usize>(), 1);
/// # }
/// ```
///
/// Create the state after [`Worker::from_env`]: before it, the process may turn out to be one that only starts commands
/// or watches over others.
///
/// [`Task::new`]: crate::Task::new
/// [`Task::blocking`]: crate::Task::blocking
/// [`Task::raw`]: crate::Task::raw
/// [`Task::raw_blocking`]: crate::Task::raw_blocking
/// [`Worker::from_env`]: crate::Worker::from_env
pub fn with_state<S, I, R, Run>(
    state: &S,
    run: Run,
) -> impl Fn(JobContext, I) -> R + Send + Sync + 'static + use<S, I, R, Run>
where
    S: Clone + Send + Sync + 'static,
    Run: Fn(S, JobContext, I) -> R + Send + Sync + 'static,
{
    let state = state.clone();
    move |job, input| run(state.clone(), job, input)
}
