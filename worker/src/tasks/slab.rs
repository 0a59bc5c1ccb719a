//! Simulates one photon in a flat, wide slab that absorbs and scatters light.
//!
//! An analog random walk: a photon flies straight for a random distance, is then absorbed or deflected, and so on until
//! it is absorbed or has left. The refractive index is the same inside and outside, so nothing is reflected at the
//! faces. By symmetry only the depth and the direction's cosine against the normal matter. Lengths are in mean free
//! paths, and angles follow Henyey and Greenstein (Astrophysical Journal 93, 1941).
//!
//! Knows nothing of jobs, threads or chunks.

use std::f64::consts::TAU;

use rand::{Rng, RngExt};

/// The thickest slab, in mean free paths. A photon that crosses a slab without absorption takes about the
/// square of that in steps, so the longest walks take seconds.
pub(super) const MAX_OPTICAL_THICKNESS: f64 = 10_000.0;

/// A slab: the three numbers that determine the fate of light that falls on it at a right angle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slab {
    /// Thickness in mean free paths; 0 or more.
    optical_thickness: f64,
    /// Probability that a photon survives a collision, 0 to 1.
    albedo: f64,
    /// Mean cosine of the deflection, between -1 and 1.
    anisotropy: f64,
}

/// How a photon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It crossed the slab in one flight.
    Unscattered,
    /// It left through the far face after collisions.
    Transmitted,
    /// It left through the face it entered by.
    Reflected,
    /// It stayed inside.
    Absorbed,
}

impl Slab {
    /// Creates a slab from its thickness in centimetres, absorption and scattering per centimetre, none of them
    /// negative, and an anisotropy between -1 and 1.
    pub(super) fn new(thickness: f64, absorption: f64, scattering: f64, anisotropy: f64) -> Self {
        let extinction = absorption + scattering;
        let albedo = if extinction > 0.0 { scattering / extinction } else { 0.0 };
        Self { optical_thickness: thickness * extinction, albedo, anisotropy }
    }

    /// The thickness in mean free paths.
    pub(super) fn optical_thickness(&self) -> f64 {
        self.optical_thickness
    }

    /// Simulates one photon. Calls `stopped` before every flight, and returns `None` once it returns true.
    pub(super) fn follow(
        &self,
        random: &mut impl Rng,
        stopped: &mut impl FnMut() -> bool,
    ) -> Option<Fate> {
        if stopped() {
            return None;
        }
        let mut depth = free_path(random);
        if depth >= self.optical_thickness {
            return Some(Fate::Unscattered);
        }
        let mut cosine = 1.0;
        while random.random::<f64>() < self.albedo {
            if stopped() {
                return None;
            }
            cosine = self.deflect(cosine, random);
            depth += cosine * free_path(random);
            if depth < 0.0 {
                return Some(Fate::Reflected);
            }
            if depth >= self.optical_thickness {
                return Some(Fate::Transmitted);
            }
        }
        Some(Fate::Absorbed)
    }

    /// The cosine against the normal after a deflection in a random plane.
    fn deflect(&self, cosine: f64, random: &mut impl Rng) -> f64 {
        let along = self.deflection(random);
        let azimuth = (TAU * random.random::<f64>()).cos();
        let across = ((1.0 - along * along) * (1.0 - cosine * cosine)).sqrt();
        (cosine * along + across * azimuth).clamp(-1.0, 1.0)
    }

    /// The cosine of a random deflection.
    ///
    /// The usual inversion divides by the anisotropy; multiplied out it needs no special case for isotropic scattering,
    /// and loses no digits near it.
    fn deflection(&self, random: &mut impl Rng) -> f64 {
        let g = self.anisotropy;
        let x = 2.0 * random.random::<f64>() - 1.0;
        let stretch = 1.0 + g * x;
        let rest = (x * x + 3.0) / 2.0 + g * (x + g * (x * x - 1.0) / 2.0);
        // With strongly peaked scattering, rounding may give a cosine above 1 or below -1.
        ((x + g * rest) / (stretch * stretch)).clamp(-1.0, 1.0)
    }
}

/// A random distance to the next collision, in mean free paths.
fn free_path(random: &mut impl Rng) -> f64 {
    // 1 minus the random number is never 0, so the logarithm is always finite.
    -(1.0 - random.random::<f64>()).ln()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    use super::*;

    #[test]
    fn deflections_have_the_moments_of_henyey_and_greenstein() {
        const SAMPLES: u32 = 100_000;
        let mut random = Pcg64Mcg::seed_from_u64(1);
        for g in [-0.999, -0.5, -1e-9, 0.0, 1e-9, 0.3, 0.75, 0.9, 0.999] {
            let slab = Slab::new(1.0, 0.0, 1.0, g);
            let (mut first, mut second) = (0.0, 0.0);
            for _ in 0..SAMPLES {
                let cosine = slab.deflection(&mut random);
                first += cosine / f64::from(SAMPLES);
                second += (1.5 * cosine * cosine - 0.5) / f64::from(SAMPLES);
            }
            // A cosine's standard deviation is at most 1, and its second Legendre polynomial's at most 3/4.
            let tolerance = 4.0 / f64::from(SAMPLES).sqrt();
            assert!((first - g).abs() < tolerance, "g {g}: {first}");
            assert!((second - g * g).abs() < tolerance, "g {g}: {second}");
        }
    }

    #[test]
    fn a_photon_in_no_matter_flies_through() {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        for slab in [
            Slab::new(1.0, 0.0, 0.0, 0.0),
            Slab::new(0.0, 1.0, 1.0, 0.0),
            Slab::new(f64::MIN_POSITIVE / 4.0, 1e-300, 1e-300, 0.0),
        ] {
            let fate = slab.follow(&mut random, &mut || false);
            assert_eq!(fate, Some(Fate::Unscattered), "{slab:?}");
        }
    }

    #[test]
    fn a_walk_through_a_thick_slab_can_be_stopped_half_way() {
        let slab = Slab::new(MAX_OPTICAL_THICKNESS, 0.0, 1.0, 0.0);
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let stopped = (0..1000).any(|_| {
            let mut flights = 0;
            let mut after_a_thousand = || {
                flights += 1;
                flights > 1000
            };
            slab.follow(&mut random, &mut after_a_thousand).is_none()
        });
        assert!(stopped, "one photon in fifty makes over 1000 flights");
    }
}
