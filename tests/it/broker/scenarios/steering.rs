//! What operators request of workers.

use crunch_common::broker::Control;

use super::*;

pub(super) async fn requested(world: &mut World) -> Check {
    let steer = async |world: &World, wanted| {
        world.broker.steer(world.worker, wanted).await.map_err(|error| error.to_string())
    };
    ensure(!steer(world, WorkerState::Quiet).await?, "there is no such worker")?;
    world.heartbeat(&[]).await?;
    ensure(world.wanted.is_none(), "nothing was requested")?;
    let controls = world.broker.controls(world.worker).await;
    let mut controls = controls.map_err(|error| error.to_string())?;
    for wanted in [WorkerState::Quiet, WorkerState::Stopping, WorkerState::Running] {
        ensure(steer(world, wanted).await?, "there is such a worker")?;
        let message = tokio::time::timeout(LEASE, controls.next(|| true)).await;
        ensure(message == Ok(Some(Control::Heartbeat)), "the worker is asked for a heartbeat")?;
        for _ in 0..2 {
            world.heartbeat(&[]).await?;
            ensure(world.wanted == Some(wanted), "the worker learns what was requested")?;
        }
    }
    let reclaimed = world.broker.reclaim(world.worker).await;
    reclaimed.map_err(|error| error.to_string())?;
    ensure(!steer(world, WorkerState::Quiet).await?, "a dead worker is none")
}
