//! A quote, the values that it covers and the log of user space are read one after
//! another, from a machine that continues to measure. They are read again until they
//! are consistent: otherwise a machine that starts a service meanwhile would be refused
//! as altered.

use std::thread;
use std::time::Duration;

use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::pcr::{PcrValues, Selection};
use portcullis_attest::tpm::signature::Signature;

use crate::error::AttesterError;

/// Number of attempts at a quote, and the first pause, which doubles: about two seconds
/// for a machine that measures all the time.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(16);

/// The readings of a machine, step by step.
pub(super) trait Readings {
    /// `TPMS_ATTEST` and `TPMT_SIGNATURE` of a new quote.
    fn quote(&mut self) -> Result<(Vec<u8>, Vec<u8>), AttesterError>;

    /// Current values of the PCRs.
    fn pcrs(&mut self) -> Result<PcrValues, AttesterError>;

    /// The log of user space; `None` if there is none.
    fn user_space_log(&mut self) -> Result<Option<Vec<u8>>, AttesterError>;
}

/// Consistent readings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) attest: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) pcrs: PcrValues,
    pub(super) user_space_log: Option<Vec<u8>>,
}

/// Reads until the values match the quote and the log did not grow in between.
///
/// # Errors
/// Errors of the readings; [`AttesterError::Moving`] if they never match.
pub(super) fn read(machine: &mut impl Readings, selection: &Selection) -> Result<Moment, AttesterError> {
    let mut pause = FIRST_PAUSE;
    let mut moving = "PCRs";
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            thread::sleep(pause);
            pause = pause.saturating_mul(2).min(Duration::from_millis(500));
        }
        let before = machine.user_space_log()?;
        let (attest, signature) = machine.quote()?;
        let pcrs = machine.pcrs()?;
        let user_space_log = machine.user_space_log()?;
        if !covers(&attest, &signature, &pcrs, selection) {
            moving = "PCRs";
        } else if before != user_space_log {
            moving = "log of user space";
        } else {
            return Ok(Moment { attest, signature, pcrs, user_space_log });
        }
    }
    Err(AttesterError::Moving { what: moving, attempts: ATTEMPTS })
}

/// Whether these are the quoted values. The verifier refuses a quote that cannot be
/// parsed.
fn covers(attest: &[u8], signature: &[u8], pcrs: &PcrValues, selection: &Selection) -> bool {
    let (Ok(quote), Ok(signature)) = (Quote::parse(attest), Signature::parse(signature)) else { return true };
    pcrs.digest(selection, signature.hash).is_none_or(|digest| digest == quote.pcr_digest)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a fake that counts its readings")]
mod tests {
    use portcullis_attest::tpm::pcr::Bank;

    use super::*;

    /// A machine that measures into PCR 11 after each of the first readings.
    #[derive(Default)]
    struct Moving {
        value: u8,
        log: Vec<u8>,
        readings: u32,
        /// Whether it measures after a reading of this number.
        measures: Option<fn(u32) -> bool>,
        logged: bool,
    }

    impl Moving {
        fn read<T>(&mut self, value: impl FnOnce(&Self) -> T) -> Result<T, AttesterError> {
            let value = value(self);
            if self.measures.is_some_and(|measures| measures(self.readings)) {
                self.value += 1;
                self.log.extend(self.logged.then_some(self.value));
            }
            self.readings += 1;
            Ok(value)
        }

        fn values(&self) -> PcrValues {
            let mut values = PcrValues::default();
            assert!(values.insert(Bank::Sha256, 11, vec![self.value; 32]));
            values
        }
    }

    impl Readings for Moving {
        fn quote(&mut self) -> Result<(Vec<u8>, Vec<u8>), AttesterError> {
            self.read(|machine| {
                let selection = Selection::sha256([11]);
                let digest = machine.values().digest(&selection, Bank::Sha256).unwrap();
                // TPMS_ATTEST of a quote (TPM 2.0 Part 2, §10.12.8): no signer, no
                // nonce, no clock.
                let head = [&0xff54_4347_u32.to_be_bytes()[..], &0x8018_u16.to_be_bytes(), &[0; 4], &[0; 25]];
                let body = [&1_u32.to_be_bytes()[..], &[0, 0x0b, 3, 0, 8, 0], &[0, 32], &digest];
                let signature = [&[0, 0x18, 0, 0x0b, 0, 1, 1, 0, 1, 1][..]].concat();
                ([head.concat(), body.concat()].concat(), signature)
            })
        }

        fn pcrs(&mut self) -> Result<PcrValues, AttesterError> {
            self.read(Self::values)
        }

        fn user_space_log(&mut self) -> Result<Option<Vec<u8>>, AttesterError> {
            self.read(|machine| Some(machine.log.clone()))
        }
    }

    fn read_of(logged: bool, measures: fn(u32) -> bool) -> (Result<Moment, AttesterError>, Moving) {
        let mut machine = Moving { measures: Some(measures), logged, ..Moving::default() };
        (read(&mut machine, &Selection::sha256([11])), machine)
    }

    #[test]
    fn a_machine_that_measures_is_read_again() {
        for logged in [false, true] {
            // Between the quote and the values, then between values and log, then no longer.
            let (moment, machine) = read_of(logged, |reading| [1, 6].contains(&reading));
            let moment = moment.unwrap();
            // A measurement after the values were read, and in no log, does not affect the
            // readings.
            let log: &[u8] = if logged { &[1, 2] } else { &[] };
            assert_eq!(moment.user_space_log.as_deref(), Some(log));
            assert_eq!(moment.pcrs.value(Bank::Sha256, 11), Some(&[if logged { 2 } else { 1 }; 32][..]));
            assert!(covers(&moment.attest, &moment.signature, &moment.pcrs, &Selection::sha256([11])));
            assert_eq!(machine.readings, if logged { 12 } else { 8 });
        }
    }

    #[test]
    fn a_machine_that_never_rests_is_refused() {
        let (moment, machine) = read_of(true, |reading| reading % 4 == 1);
        assert!(matches!(moment, Err(AttesterError::Moving { what: "PCRs", attempts: ATTEMPTS })), "{moment:?}");
        assert_eq!(machine.readings, 4 * ATTEMPTS);
        let (moment, _) = read_of(true, |reading| reading % 4 == 2);
        assert!(matches!(moment, Err(AttesterError::Moving { what: "log of user space", .. })), "{moment:?}");
    }
}
