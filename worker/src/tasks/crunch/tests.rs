//! Tests the physics against laws and published values; threads, cancellation and malicious payloads against the
//! documentation.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;

/// Long enough for the slowest machine; only a hang exceeds it.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs the simulation without a job, on exactly the requested number of threads.
fn simulate(input: &Crunch) -> CrunchResult {
    let simulation = Simulation { threads: input.threads as usize, ..input.simulation().unwrap() };
    let tally = simulation.run(&CancellationToken::new(), |_| ()).unwrap();
    CrunchResult::of(&tally.unwrap(), input.seed)
}

#[track_caller]
fn assert_close(estimate: Estimate, expected: f64) {
    let error = (estimate.fraction - expected).abs();
    assert!(error <= 4.0 * estimate.standard_error, "{estimate:?} is too far from {expected}");
}

fn refusal(payload: &str) -> TaskError {
    let input: Crunch = serde_json::from_str(payload).unwrap();
    input.simulation().map(|_| payload).unwrap_err()
}

#[test]
fn without_scattering_light_fades_by_the_beer_lambert_law() {
    for (thickness_cm, absorption_per_cm) in [(0.01, 10.0), (1.0, 1.0), (0.05, 60.0)] {
        let result = simulate(&Crunch {
            photons: 200_000,
            thickness_cm,
            absorption_per_cm,
            scattering_per_cm: 0.0,
            ..Crunch::default()
        });
        assert_close(result.transmitted, (-thickness_cm * absorption_per_cm).exp());
        assert_eq!(result.transmitted, result.transmitted_unscattered);
        assert_eq!(result.reflected.fraction, 0.0);
    }
}

/// H. C. van de Hulst, Multiple Light Scattering, volume 2 (1980), table 35; used as reference by Wang, Jacques and
/// Zheng (1995).
#[test]
fn the_slab_of_van_de_hulst_reflects_and_transmits_what_he_published() {
    let result = simulate(&Crunch { photons: 1_000_000, threads: 2, ..Crunch::default() });
    assert_close(result.reflected, 0.09739);
    assert_close(result.transmitted, 0.66096);
    assert_close(result.absorbed, 1.0 - 0.09739 - 0.66096);
    assert_close(result.transmitted_unscattered, (-2.0_f64).exp());
    assert!(result.reflected.standard_error < 0.000_3);
    assert!(result.transmitted.standard_error < 0.000_5);
}

#[test]
fn no_light_is_lost_or_made() {
    for (absorption_per_cm, scattering_per_cm, anisotropy) in [
        (0.0, 100.0, 0.0),
        (1.0, 100.0, 0.9),
        (50.0, 50.0, -0.5),
        (100.0, 0.0, 0.0),
        (0.0, 0.0, 0.0),
    ] {
        let result = simulate(&Crunch {
            photons: 10_007,
            thickness_cm: 0.1,
            absorption_per_cm,
            scattering_per_cm,
            anisotropy,
            ..Crunch::default()
        });
        let sum =
            result.transmitted.fraction + result.reflected.fraction + result.absorbed.fraction;
        assert!((sum - 1.0).abs() < 1e-12, "{result:?}");
        assert_eq!(absorption_per_cm == 0.0, result.absorbed.fraction == 0.0);
    }
}

#[test]
fn a_seed_gives_the_same_json_on_any_number_of_threads() {
    let on = |threads, seed| {
        let input = Crunch { photons: 50_001, threads, seed, ..Crunch::default() };
        serde_json::to_string(&simulate(&input)).unwrap()
    };
    let alone = on(1, 7);
    for threads in [2, 3, 7] {
        assert_eq!(on(threads, 7), alone, "{threads} threads");
    }
    let mut other = simulate(&Crunch { photons: 50_001, seed: 8, ..Crunch::default() });
    other.seed = 7;
    assert_ne!(serde_json::to_string(&other).unwrap(), alone);
}

#[test]
fn a_canceled_simulation_ends_at_once_in_any_slab() {
    let thin = Crunch::default();
    let thick = Crunch {
        thickness_cm: 100.0,
        absorption_per_cm: 0.0,
        scattering_per_cm: 100.0,
        anisotropy: 0.0,
        ..thin
    };
    let empty = Crunch { absorption_per_cm: 0.0, scattering_per_cm: 0.0, ..thin };
    for slab in [thin, thick, empty] {
        // Many minutes of work: only the cancellation can end it before the deadline.
        let input = Crunch { photons: *PHOTONS.end(), ..slab };
        let simulation = input.simulation().unwrap();
        let cancellation = CancellationToken::new();
        let (ended, outcome) = mpsc::channel();
        let (reported, reports) = mpsc::channel();
        let token = cancellation.clone();
        thread::spawn(move || {
            let tally = simulation.run(&token, |done| {
                let _ = reported.send(done);
            });
            let _ = ended.send(tally.unwrap());
        });
        reports.recv_timeout(DEADLINE).expect("progress is reported");
        cancellation.cancel();
        let tally = outcome.recv_timeout(DEADLINE).expect("the simulation ends");
        assert_eq!(tally, None, "{input:?}");
    }
}

#[test]
fn values_out_of_range_are_refused_by_name_value_and_range() {
    let cases = [
        (r#"{"photons": 0}"#, "photons is 0; it must be from 1 to 10000000000"),
        (r#"{"thickness_cm": -1}"#, "thickness_cm is -1; it must be from 0 to 1000"),
        (r#"{"absorption_per_cm": -1e-300}"#, "absorption_per_cm is -0.000"),
        (r#"{"scattering_per_cm": 1e308}"#, "scattering_per_cm is 1000"),
        (r#"{"anisotropy": 1}"#, "anisotropy is 1; it must be above -1 and below 1"),
        (r#"{"anisotropy": -1.5}"#, "anisotropy is -1.5; it must be"),
        (r#"{"threads": 0}"#, "threads is 0; it must be from 1 to 1024"),
        (
            r#"{"thickness_cm": 1000, "scattering_per_cm": 1000}"#,
            "thickness_cm × (absorption_per_cm + scattering_per_cm) is 1010000; it must be from 0 to 10000",
        ),
    ];
    for (payload, message) in cases {
        let error = refusal(payload);
        let expected = TaskError::payload_invalid(error.error.message.clone());
        assert_eq!(error, expected, "{payload}");
        assert!(error.error.message.starts_with(message), "{}", error.error.message);
    }
}

#[test]
fn not_a_number_is_refused_though_json_cannot_carry_it() {
    for field in 0..4 {
        let mut input = Crunch::default();
        let fields = [
            &mut input.thickness_cm,
            &mut input.absorption_per_cm,
            &mut input.scattering_per_cm,
            &mut input.anisotropy,
        ];
        *fields.into_iter().nth(field).unwrap() = f64::NAN;
        assert!(input.simulation().is_err(), "{input:?}");
    }
}

#[test]
fn strange_but_allowed_values_come_to_an_end() {
    for payload in [
        r#"{"thickness_cm": 0}"#,
        r#"{"thickness_cm": 5e-324, "absorption_per_cm": 5e-324, "scattering_per_cm": 5e-324}"#,
        r#"{"thickness_cm": 1000, "absorption_per_cm": 5e-324, "scattering_per_cm": 0}"#,
        r#"{"thickness_cm": 0.1, "scattering_per_cm": 100000, "absorption_per_cm": 0, "anisotropy": 0.99999999999999}"#,
        r#"{"anisotropy": -0.99999999999999}"#,
        r#"{"anisotropy": 5e-324, "seed": 18446744073709551615}"#,
        r#"{"anisotropy": -0.0, "thickness_cm": -0.0}"#,
    ] {
        let input: Crunch = serde_json::from_str(payload).unwrap();
        let result = simulate(&Crunch { photons: 20, ..input });
        assert_eq!(result.photons, 20, "{payload}");
    }
}

#[test]
fn an_empty_payload_is_the_documented_job_and_unknown_fields_are_refused() {
    let input: Crunch = serde_json::from_str("{}").unwrap();
    assert_eq!(input, Crunch::default());
    assert!(input.simulation().is_ok());
    for bad in [r#"{"photon": 1}"#, r#"{"photons": 1.5}"#, r#"{"seed": -1}"#, "[]x"] {
        assert!(serde_json::from_str::<Crunch>(bad).is_err(), "{bad}");
    }
}

/// A common source for both does not exclude that the schema allows more than the handler, or less.
#[test]
fn the_declared_schema_and_the_handler_agree_at_every_bound() {
    let task = crate::tasks::builtin().remove(0);
    let schema = task.descriptor.payload_schema.unwrap().compile().unwrap();
    let handler = |payload: &str| {
        let input = serde_json::from_str::<Crunch>(payload);
        input.is_ok_and(|input| input.simulation().is_ok())
    };
    // Few enough mean free paths that no pair of values is refused: a schema cannot express a limit on pairs.
    let thin = r#""thickness_cm": 0, "#;
    let cases = [
        ("photons", ["1", "10000000000"], ["0", "10000000001", "-1", "1.5", "null"]),
        ("absorption_per_cm", ["0", "100000"], ["-1e-300", "100000.1", "1e308", "[]", "\"1\""]),
        ("scattering_per_cm", ["0", "1e5"], ["-1", "100001", "1e308", "{}", "true"]),
        ("anisotropy", ["-0.9999999999", "0.9999999999"], ["-1", "1", "1.5", "-2", "null"]),
        (
            "seed",
            ["0", "18446744073709551615"],
            ["-1", "0.5", "18446744073709551616", "1e300", "null"],
        ),
        ("threads", ["1", "1024"], ["0", "1025", "-1", "1.5", "null"]),
        ("unknown", ["", ""], ["1", "null", "{}", "[]", "0"]),
    ];
    for (field, fits, does_not) in cases {
        let fits = fits.map(|value| (value, true));
        for (value, expected) in fits.into_iter().chain(does_not.map(|value| (value, false))) {
            if value.is_empty() {
                continue;
            }
            let payload = format!("{{{thin}\"{field}\": {value}}}");
            assert_eq!(handler(&payload), expected, "the handler on {payload}");
            assert_eq!(
                schema.check(payload.as_bytes()).is_ok(),
                expected,
                "the schema on {payload}"
            );
        }
    }
    for thickness in [("0", true), ("1000", true), ("-1", false), ("1000.1", false)] {
        let payload = format!(
            r#"{{"absorption_per_cm": 0, "scattering_per_cm": 0, "thickness_cm": {}}}"#,
            thickness.0
        );
        assert_eq!(handler(&payload), thickness.1, "the handler on {payload}");
        assert_eq!(
            schema.check(payload.as_bytes()).is_ok(),
            thickness.1,
            "the schema on {payload}"
        );
    }
    assert!(schema.check(b"{}").is_ok());
}

#[test]
fn every_result_is_what_the_declared_schema_promises() {
    let task = crate::tasks::builtin().remove(0);
    let schema = task.result.unwrap();
    for absorption_per_cm in [0.0, 10.0, 100_000.0] {
        let input = Crunch { photons: 1000, absorption_per_cm, ..Crunch::default() };
        let result = serde_json::to_vec(&simulate(&input)).unwrap();
        assert_eq!(schema.check(&result), Ok(()));
    }
    assert!(schema.check(b"{}").is_err());
}

#[test]
fn more_threads_than_the_worker_has_are_not_started() {
    let input = Crunch { threads: *THREADS.end(), ..Crunch::default() };
    assert!(input.simulation().unwrap().threads <= cpus());
}

#[test]
fn progress_is_reported_in_readable_numbers() {
    assert_eq!(message(0, 999), "0 of 999 photons");
    assert_eq!(message(1_200_000, 5_000_000), "1 200 000 of 5 000 000 photons");
}
