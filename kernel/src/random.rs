//! Random numbers: ChaCha20 with fast key erasure, seeded from the CPU's generator and from the jitter of the clock.
//!
//! What has been given out is erased at once, and each refill of the pool replaces the key, so that nobody who sees
//! the state later can tell what was given out before.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use platform::Nanoseconds;

use crate::errno::Errno;
use crate::process::Current;
use crate::sync::SpinLock;
use crate::syscall::{Call, SysResult};
use crate::time;

const KEY_BYTES: usize = 32;
type Key = [u8; KEY_BYTES];

/// What four blocks yield beside the next key.
const POOL_BYTES: usize = 256 - KEY_BYTES;

/// How long a key's descendants are used without new entropy.
const RESEED_AFTER: Nanoseconds = Nanoseconds::from_seconds(60);

/// Clock readings that go into a seed.
const JITTER_SAMPLES: usize = 256;

struct Generator {
    key: Key,
    pool: [u8; POOL_BYTES],
    /// The pool's bytes from here on have not been given out.
    used: usize,
    /// None before the first seed.
    reseed_at: Option<Nanoseconds>,
}

static GENERATOR: SpinLock<Generator> = SpinLock::new(Generator::new());

/// Seeds the generator. Once, after discovery.
pub fn init() {
    GENERATOR.lock().seed_if_due();
}

/// Fills `to` with bytes that nobody can predict. Context: a task.
pub fn fill(to: &mut [u8]) {
    if to.len() <= POOL_BYTES {
        GENERATOR.lock().take(to);
    } else {
        stream().fill_bytes(to);
    }
}

/// A random number.
pub fn u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A generator of its own for one long request.
fn stream() -> ChaCha20Rng {
    let mut key = [0; KEY_BYTES];
    GENERATOR.lock().take(&mut key);
    ChaCha20Rng::from_seed(key)
}

impl Generator {
    const fn new() -> Self {
        Self { key: [0; KEY_BYTES], pool: [0; POOL_BYTES], used: POOL_BYTES, reseed_at: None }
    }

    /// Gives out bytes of the pool and erases them.
    fn take(&mut self, to: &mut [u8]) {
        let mut done = 0;
        while done < to.len() {
            if self.used == POOL_BYTES {
                self.seed_if_due();
                self.refill();
            }
            let part = (to.len() - done).min(POOL_BYTES - self.used);
            let from = &mut self.pool[self.used..self.used + part];
            to[done..done + part].copy_from_slice(from);
            from.fill(0);
            self.used += part;
            done += part;
        }
    }

    fn refill(&mut self) {
        let mut blocks = [0; KEY_BYTES + POOL_BYTES];
        ChaCha20Rng::from_seed(self.key).fill_bytes(&mut blocks);
        self.key.copy_from_slice(&blocks[..KEY_BYTES]);
        self.pool.copy_from_slice(&blocks[KEY_BYTES..]);
        self.used = 0;
    }

    /// Makes the key depend on `data` too.
    fn absorb(&mut self, data: &Key) {
        for (byte, more) in self.key.iter_mut().zip(data) {
            *byte ^= more;
        }
        self.refill();
    }

    fn seed_if_due(&mut self) {
        let now = time::now();
        if self.reseed_at.is_some_and(|at| now < at) {
            return;
        }
        self.reseed_at = Some(now.saturating_add(RESEED_AFTER));
        self.absorb(&from_jitter());
        if let Some(key) = from_cpu() {
            self.absorb(&key);
        }
    }
}

/// What differs from one boot to the next even without a generator in the CPU: the date, and how long things take.
fn from_jitter() -> Key {
    let mut words = [time::realtime().0, 0, 0, 0];
    let mut last = time::now().0;
    for sample in 0..JITTER_SAMPLES {
        let now = time::now().0;
        let word = &mut words[sample % 4];
        *word =
            word.rotate_left(9).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ now ^ (now.wrapping_sub(last) << 32);
        last = now;
    }
    to_key(words)
}

fn to_key(words: [u64; 4]) -> Key {
    let mut key = [0; KEY_BYTES];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    key
}

/// The CPU's instruction for random words.
#[derive(Clone, Copy)]
enum Instruction {
    RdSeed,
    RdRand,
}

/// The better one of those it has (Intel SDM vol. 2A, CPUID).
fn instruction() -> Option<Instruction> {
    const LEAF1_ECX_RDRAND: u32 = 1 << 30;
    const LEAF7_EBX_RDSEED: u32 = 1 << 18;
    let leaves = __cpuid(0).eax;
    if leaves >= 7 && __cpuid_count(7, 0).ebx & LEAF7_EBX_RDSEED != 0 {
        Some(Instruction::RdSeed)
    } else if leaves >= 1 && __cpuid(1).ecx & LEAF1_ECX_RDRAND != 0 {
        Some(Instruction::RdRand)
    } else {
        None
    }
}

/// Four words of the CPU's generator; none if it has none, or a broken one.
fn from_cpu() -> Option<Key> {
    let instruction = instruction()?;
    let mut words = [0; 4];
    for word in &mut words {
        *word = cpu_word(instruction)?;
    }
    // Some CPUs return the same word for ever after a suspend, and say it was a success.
    let stuck = words.iter().all(|&word| word == words[0]);
    (!stuck).then(|| to_key(words))
}

/// Tries as often as the manual advises (Intel SDM vol. 1, 7.3.17).
fn cpu_word(instruction: Instruction) -> Option<u64> {
    const TRIES: usize = 10;
    for _ in 0..TRIES {
        let (word, valid): (u64, u8);
        // SAFETY: the caller has found the instruction by CPUID; it changes nothing but its operand and the flags.
        unsafe {
            match instruction {
                Instruction::RdSeed => {
                    asm!("rdseed {}", "setc {}", out(reg) word, out(reg_byte) valid, options(nomem, nostack));
                }
                Instruction::RdRand => {
                    asm!("rdrand {}", "setc {}", out(reg) word, out(reg_byte) valid, options(nomem, nostack));
                }
            }
        }
        if valid != 0 {
            return Some(word);
        }
    }
    None
}

/// `getrandom(2)`. The generator is ready from the first call on, so the flags make no difference.
pub fn getrandom(call: &mut Call<'_>) -> SysResult {
    const NONBLOCK: u32 = 1;
    const RANDOM: u32 = 2;
    const INSECURE: u32 = 4;
    const LONGEST: usize = i32::MAX as usize;
    /// Longer requests end early when a signal comes (`getrandom(2)`).
    const UNINTERRUPTED: usize = 256;

    let (to, length, flags) = (call.user(0), call.size(1).min(LONGEST), call.uint(2));
    if flags & !(NONBLOCK | RANDOM | INSECURE) != 0 || flags & (RANDOM | INSECURE) == RANDOM | INSECURE {
        return Err(Errno::EINVAL);
    }
    let mut buffer = [0; UNINTERRUPTED];
    if length <= POOL_BYTES {
        let bytes = &mut buffer[..length];
        fill(bytes);
        to.write_bytes(bytes)?;
        return Ok(length as u64);
    }
    let mut stream = stream();
    let mut done = 0;
    while done < length {
        let part = (length - done).min(buffer.len());
        stream.fill_bytes(&mut buffer[..part]);
        match to.offset(done as u64).write_partial(&buffer[..part]) {
            Ok(written) if written == part => done += part,
            Ok(0) | Err(_) if done == 0 => return Err(Errno::EFAULT),
            Ok(written) => return Ok((done + written) as u64),
            Err(_) => return Ok(done as u64),
        }
        if done.is_multiple_of(4096) && Current::signal_pending() {
            break;
        }
    }
    Ok(done as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded(byte: u8) -> Generator {
        let reseed_at = Some(Nanoseconds::MAX);
        Generator { key: [byte; KEY_BYTES], reseed_at, ..Generator::new() }
    }

    #[test]
    fn the_stream_is_chacha20_with_the_key_replaced() {
        let mut expected = [0; KEY_BYTES + POOL_BYTES];
        ChaCha20Rng::from_seed([7; KEY_BYTES]).fill_bytes(&mut expected);
        let mut generator = seeded(7);
        let mut first = [0; POOL_BYTES];
        generator.take(&mut first);
        assert_eq!(first, expected[KEY_BYTES..]);
        assert_eq!(generator.key, expected[..KEY_BYTES]);
        assert!(generator.pool.iter().all(|&byte| byte == 0), "what was given out is still there");
    }

    #[test]
    fn small_requests_give_the_same_stream_as_a_large_one() {
        let (mut at_once, mut in_parts) = ([0; 1000], [0; 1000]);
        seeded(1).take(&mut at_once);
        let mut generator = seeded(1);
        for part in in_parts.chunks_mut(7) {
            generator.take(part);
        }
        assert_eq!(at_once, in_parts);
    }

    #[test]
    fn new_entropy_changes_the_stream() {
        let (mut plain, mut mixed) = ([0; 32], [0; 32]);
        seeded(1).take(&mut plain);
        let mut generator = seeded(1);
        generator.absorb(&[1; KEY_BYTES]);
        generator.take(&mut mixed);
        assert_ne!(plain, mixed);
    }

    #[test]
    fn requests_do_not_repeat() {
        let (mut first, mut second) = ([0; 4096], [0; 4096]);
        fill(&mut first);
        fill(&mut second);
        assert_ne!(first, second);
        assert_ne!(u64(), u64());
        let ones: u32 = first.iter().map(|byte| byte.count_ones()).sum();
        // Half of 32768 bits, within more than ten standard deviations.
        assert!((15_400..17_400).contains(&ones), "{ones}");
    }
}
