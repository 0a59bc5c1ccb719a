//! The task `crunch`: how much light a slab transmits, reflects and absorbs, by Monte Carlo.
//!
//! Payload, result and their limits; the physics is in `slab.rs`, the threads in `simulation.rs`.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::thread;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::simulation::{Simulation, Tally};
use super::slab::{MAX_OPTICAL_THICKNESS, Slab};
use crate::{JobContext, TaskError};

/// Half an hour of one core in a thin slab; the task's timeout comes first.
const PHOTONS: RangeInclusive<u64> = 1..=10_000_000_000;
/// From zero to ten metres.
const THICKNESS_CM: RangeInclusive<f64> = 0.0..=1_000.0;
/// From vacuum to a mean free path of a tenth of a micrometre.
const PER_CM: RangeInclusive<f64> = 0.0..=100_000.0;
/// More than any machine has: no more threads than the worker's CPUs are used.
const THREADS: RangeInclusive<u32> = 1..=1_024;

/// Payload of the task `crunch`. Every field has a default; `{}` is van de Hulst's reference slab with 20 million
/// photons. Unknown fields are refused.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("examples" = [{ "photons": 1_000_000, "anisotropy": 0.9 }]))]
pub struct Crunch {
    /// How many photons to simulate: a whole number from 1 to 10 000 000 000. Default 20 000 000.
    #[schemars(range(min = *PHOTONS.start(), max = *PHOTONS.end()))]
    pub photons: u64,
    /// Thickness of the slab in centimetres, 0 to 1 000. Default 0.02. Together with the coefficients at most 10 000
    /// mean free paths: `thickness_cm × (absorption_per_cm + scattering_per_cm) ≤ 10 000`.
    #[schemars(range(min = *THICKNESS_CM.start(), max = *THICKNESS_CM.end()))]
    pub thickness_cm: f64,
    /// Absorption coefficient in 1/cm, 0 to 100 000. Default 10.
    #[schemars(range(min = *PER_CM.start(), max = *PER_CM.end()))]
    pub absorption_per_cm: f64,
    /// Scattering coefficient in 1/cm, 0 to 100 000. Default 90.
    #[schemars(range(min = *PER_CM.start(), max = *PER_CM.end()))]
    pub scattering_per_cm: f64,
    /// Mean cosine of the deflection: above -1 (backward), 0 (isotropic), below 1 (forward). Default 0.75.
    #[schemars(extend("exclusiveMinimum" = -1, "exclusiveMaximum" = 1))]
    pub anisotropy: f64,
    /// The same seed gives the same result, whatever `threads` is. A whole number from 0 to 2⁶⁴ - 1. Default 0.
    #[schemars(range(max = u64::MAX))]
    pub seed: u64,
    /// How many threads to use, 1 to 1 024, but never more than the worker has CPUs. Default 1.
    #[schemars(range(min = *THREADS.start(), max = *THREADS.end()))]
    pub threads: u32,
}

impl Default for Crunch {
    fn default() -> Self {
        Self {
            photons: 20_000_000,
            thickness_cm: 0.02,
            absorption_per_cm: 10.0,
            scattering_per_cm: 90.0,
            anisotropy: 0.75,
            seed: 0,
            threads: 1,
        }
    }
}

/// Result of the task `crunch`. The fractions of transmitted, reflected and absorbed light add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrunchResult {
    /// Light that left through the far face, unscattered light included.
    pub transmitted: Estimate,
    /// The part of `transmitted` without any collision: `exp(-mean free paths)` by the Beer–Lambert law.
    pub transmitted_unscattered: Estimate,
    /// Light that left through the face it entered by. With matched refractive indices all of it is diffuse.
    pub reflected: Estimate,
    /// Light that stayed in the slab.
    pub absorbed: Estimate,
    /// How many photons were simulated.
    pub photons: u64,
    /// The seed that was used.
    pub seed: u64,
}

/// A measured fraction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Fraction of the photons, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub fraction: f64,
    /// One standard deviation of `fraction`. 0 if it counts no photon or every photon; the true fraction is then, with
    /// 95 % confidence, within 3 / `photons` of it.
    pub standard_error: f64,
}

/// Simulates photons in a slab. Blocks until it is done; reports progress about ten times a second, and stops within
/// milliseconds of a cancellation.
///
/// ```
/// use crunch_worker::Task;
/// use crunch_worker::tasks::{Crunch, CrunchResult, crunch};
/// use crunch_worker::testing::Attempt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let payload = Crunch { photons: 1000, ..Crunch::default() };
/// let report = Attempt::of(Task::blocking("crunch", crunch)).payload(payload).run().await;
/// let CrunchResult { transmitted, reflected, absorbed, .. } = report.json();
/// let sum = transmitted.fraction + reflected.fraction + absorbed.fraction;
/// assert!((sum - 1.0).abs() < 1e-6);
/// # }
/// ```
///
/// # Errors
/// `payload_invalid` if a field is out of range.
#[expect(
    clippy::needless_pass_by_value,
    reason = "handlers own their job: the worker registers them with this signature"
)]
pub fn crunch(job: JobContext, input: Crunch) -> Result<CrunchResult, TaskError> {
    let simulation = input.simulation()?;
    let report =
        |done| job.progress(done as f64 / input.photons as f64, message(done, input.photons));
    let tally = simulation
        .run(job.cancellation(), report)
        .map_err(|error| TaskError::no_thread(&error))?
        .ok_or_else(|| TaskError::retryable("stopped before the last photon"))?;
    report(input.photons);
    Ok(CrunchResult::of(&tally, input.seed))
}

impl Crunch {
    /// Checks every field; the simulation trusts them.
    fn simulation(&self) -> Result<Simulation, TaskError> {
        within("photons", self.photons, &PHOTONS)?;
        within("thickness_cm", self.thickness_cm, &THICKNESS_CM)?;
        within("absorption_per_cm", self.absorption_per_cm, &PER_CM)?;
        within("scattering_per_cm", self.scattering_per_cm, &PER_CM)?;
        within("threads", self.threads, &THREADS)?;
        let inside = -1.0 < self.anisotropy && self.anisotropy < 1.0;
        if !inside {
            return Err(TaskError::payload_invalid(format!(
                "anisotropy is {}; it must be above -1 and below 1",
                self.anisotropy
            )));
        }
        Ok(Simulation {
            slab: self.slab()?,
            photons: self.photons,
            seed: self.seed,
            threads: (self.threads as usize).min(cpus()),
        })
    }

    fn slab(&self) -> Result<Slab, TaskError> {
        let slab = Slab::new(
            self.thickness_cm,
            self.absorption_per_cm,
            self.scattering_per_cm,
            self.anisotropy,
        );
        if slab.optical_thickness() > MAX_OPTICAL_THICKNESS {
            return Err(TaskError::payload_invalid(format!(
                "thickness_cm × (absorption_per_cm + scattering_per_cm) is {}; it must be from 0 to {MAX_OPTICAL_THICKNESS}",
                slab.optical_thickness()
            )));
        }
        Ok(slab)
    }
}

impl CrunchResult {
    fn of(tally: &Tally, seed: u64) -> Self {
        let photons = tally.photons();
        Self {
            transmitted: Estimate::of(tally.transmitted + tally.unscattered, photons),
            transmitted_unscattered: Estimate::of(tally.unscattered, photons),
            reflected: Estimate::of(tally.reflected, photons),
            absorbed: Estimate::of(tally.absorbed, photons),
            photons,
            seed,
        }
    }
}

impl Estimate {
    /// Each photon counts or does not: a binomial distribution.
    fn of(count: u64, photons: u64) -> Self {
        let photons = photons as f64;
        let fraction = count as f64 / photons;
        Self { fraction, standard_error: (fraction * (1.0 - fraction) / photons).sqrt() }
    }
}

fn within<T: PartialOrd + Copy + Display>(
    field: &str,
    value: T,
    range: &RangeInclusive<T>,
) -> Result<(), TaskError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (low, high) = (range.start(), range.end());
    Err(TaskError::payload_invalid(format!("{field} is {value}; it must be from {low} to {high}")))
}

/// How many threads this machine can run at once; 1 if that is unknown.
fn cpus() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn message(done: u64, photons: u64) -> String {
    format!("{} of {} photons", grouped(done), grouped(photons))
}

/// A number with a space between every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
