//! Virtual time: retired instructions through an integer ratio.

use serde::{Deserialize, Serialize};

/// Virtual time of a machine, in nanoseconds since power-on.
///
/// Time is `base_ns + (retired - base_retired) * ns_num / ns_den`, so equal instruction counts give
/// equal times. Changing the ratio moves the base, never time itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    retired: u64,
    base_retired: u64,
    base_ns: u64,
    ns_num: u64,
    ns_den: u64,
}

impl Clock {
    /// A clock at zero that counts `ns_num / ns_den` nanoseconds per retired instruction.
    pub fn new(ns_num: u64, ns_den: u64) -> Self {
        assert!(
            ns_num > 0 && ns_den > 0,
            "a clock that stands still would hang every timer"
        );
        Self {
            retired: 0,
            base_retired: 0,
            base_ns: 0,
            ns_num,
            ns_den,
        }
    }

    /// Instructions retired since power-on, over all processors.
    pub fn retired(&self) -> u64 {
        self.retired
    }

    /// Sets the count of retired instructions. The processor calls it before anything can look at time.
    #[inline]
    pub fn set_retired(&mut self, retired: u64) {
        debug_assert!(retired >= self.retired, "virtual time cannot go back");
        self.retired = retired;
    }

    /// The virtual time, in nanoseconds since power-on.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.ns_at(self.retired)
    }

    /// The virtual time at which `retired` instructions will have been retired at the present ratio.
    #[inline]
    pub fn ns_at(&self, retired: u64) -> u64 {
        let passed = retired - self.base_retired;
        self.base_ns
            + match passed.checked_mul(self.ns_num) {
                Some(product) => product / self.ns_den,
                None => {
                    let product = u128::from(passed) * u128::from(self.ns_num);
                    (product / u128::from(self.ns_den)) as u64
                }
            }
    }

    /// The smallest number of further instructions after which `deadline_ns` has been reached.
    pub fn instructions_until(&self, deadline_ns: u64) -> u64 {
        if deadline_ns <= self.now_ns() {
            return 0;
        }
        let wait_ns = deadline_ns - self.base_ns;
        let count = match wait_ns.checked_mul(self.ns_den) {
            Some(product) => product.div_ceil(self.ns_num),
            None => {
                let product = u128::from(wait_ns) * u128::from(self.ns_den);
                u64::try_from(product.div_ceil(u128::from(self.ns_num))).unwrap_or(u64::MAX)
            }
        };
        self.base_retired
            .saturating_add(count)
            .saturating_sub(self.retired)
            .max(1)
    }

    /// Moves time on to `deadline_ns` without retiring anything: an idle processor waited for it.
    pub fn skip_to(&mut self, deadline_ns: u64) {
        let now_ns = self.now_ns();
        if deadline_ns > now_ns {
            self.base_ns = deadline_ns;
            self.base_retired = self.retired;
        }
    }

    /// Lets `ns` pass without retiring anything: a processor waited for a device's answer.
    #[inline]
    pub fn pass(&mut self, ns: u64) {
        self.base_ns += ns;
    }

    /// Changes the ratio from this instant on.
    pub fn set_ratio(&mut self, ns_num: u64, ns_den: u64) {
        assert!(
            ns_num > 0 && ns_den > 0,
            "a clock that stands still would hang every timer"
        );
        self.base_ns = self.now_ns();
        self.base_retired = self.retired;
        self.ns_num = ns_num;
        self.ns_den = ns_den;
    }

    /// Whether a decoded clock is one that can go on.
    pub fn is_sound(&self) -> bool {
        let most = u64::MAX >> 1;
        self.ns_num > 0
            && self.ns_den > 0
            && self.base_retired <= self.retired
            && self.retired < most
            && self.base_ns < most
    }

    /// Nanoseconds per instruction as `(numerator, denominator)`.
    pub fn ratio(&self) -> (u64, u64) {
        (self.ns_num, self.ns_den)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_until_reaches_the_deadline_and_not_one_more() {
        for (num, den) in [(2, 1), (1, 3), (7, 5)] {
            let mut clock = Clock::new(num, den);
            clock.set_retired(17);
            let n = clock.instructions_until(1000);
            assert!(clock.ns_at(17 + n) >= 1000);
            assert!(clock.ns_at(17 + n - 1) < 1000);
        }
    }

    #[test]
    fn a_change_of_ratio_does_not_move_time() {
        let mut clock = Clock::new(2, 1);
        clock.set_retired(100);
        clock.set_ratio(5, 1);
        assert_eq!(clock.now_ns(), 200);
        clock.set_retired(101);
        assert_eq!(clock.now_ns(), 205);
    }
}
