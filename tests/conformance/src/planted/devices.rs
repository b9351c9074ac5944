//! The devices' hooks, and their lines'.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use platform::{Device, DeviceEvents, DeviceId, QueueLayout};

use super::{Violation, broken, sound};
use crate::driven::{FEATURES_OK, VERSION_1};
use crate::memory::direct;

/// Counts up to `every`, and says when it is there.
fn turn(count: &AtomicU32, every: u32) -> bool {
    count.fetch_add(1, Ordering::Relaxed) % every == every - 1
}

/// Forgets the version, or after some calls the last device.
pub fn next(after: Option<DeviceId>) -> Option<Device> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let mut device = sound::devices::next(after)?;
    if broken(Violation::DeviceWithoutVersion) {
        device.features &= !VERSION_1;
    }
    let is_gone = broken(Violation::DeviceGone)
        && CALLS.fetch_add(1, Ordering::Relaxed) > 8
        && sound::devices::next(Some(device.id)).is_none();
    (!is_gone).then_some(device)
}

/// What was accepted last.
static ACCEPTED: AtomicU64 = AtomicU64::new(0);
/// A reset that is put off, of the device of this number, one up.
static PUT_OFF: AtomicU32 = AtomicU32::new(0);

/// Notes what is accepted.
pub fn accept(device: DeviceId, features: u64) {
    ACCEPTED.store(features, Ordering::Relaxed);
    sound::devices::accept(device, features);
}

/// Says what the status was before, refuses features, or resets when the next driver comes.
pub fn set_status(device: DeviceId, status: u8) -> u8 {
    static BEFORE: AtomicU16 = AtomicU16::new(0);
    if status == 0 {
        PLACED.fetch_and(!(1 << device.0), Ordering::Relaxed);
    }
    if broken(Violation::ResetLate) {
        if status == 0 {
            PUT_OFF.store(device.0 + 1, Ordering::Relaxed);
            return 0;
        }
        if PUT_OFF.swap(0, Ordering::Relaxed) != 0 {
            sound::devices::set_status(device, 0);
        }
    }
    let answer = sound::devices::set_status(device, status);
    let before = BEFORE.swap(answer.into(), Ordering::Relaxed) as u8;
    if broken(Violation::StatusBefore) {
        before
    } else if broken(Violation::FeaturesRefused)
        && status == FEATURES_OK
        && ACCEPTED.load(Ordering::Relaxed) != VERSION_1
    {
        answer & !(FEATURES_OK ^ crate::driven::DRIVER)
    } else {
        answer
    }
}

/// Finds a queue of every number.
pub fn queue_limit(device: DeviceId, queue: u16) -> u16 {
    let limit = sound::devices::queue_limit(device, queue);
    if limit == 0 && broken(Violation::QueuesWithoutEnd) { 8 } else { limit }
}

/// Devices with a queue that stays where it is, one bit each.
static PLACED: AtomicU32 = AtomicU32::new(0);
/// Where the last queue's descriptor table and driver area are, and its size.
static TABLE: AtomicU64 = AtomicU64::new(0);
static DRIVER: AtomicU64 = AtomicU64::new(0);
static SIZE: AtomicU16 = AtomicU16::new(1);

/// Keeps the first place, or takes the queue for twice as long.
pub fn set_queue(device: DeviceId, layout: &QueueLayout) {
    TABLE.store(layout.descriptors.0, Ordering::Relaxed);
    DRIVER.store(layout.driver.0, Ordering::Relaxed);
    SIZE.store(layout.size.max(1), Ordering::Relaxed);
    let bit = 1 << device.0;
    if broken(Violation::QueueStays)
        && (layout.size == 0 || PLACED.fetch_or(bit, Ordering::Relaxed) & bit != 0)
    {
        return;
    }
    let size = if broken(Violation::QueueSize) { 2 * layout.size } else { layout.size };
    sound::devices::set_queue(device, &QueueLayout { size, ..*layout });
}

/// Says nothing, now and then, or shows the device the first word of its data as it was at the notification before.
pub fn notify(device: DeviceId, queue: u16) {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    if broken(Violation::NotifyLost) && turn(&CALLS, 20) {
        return;
    }
    if broken(Violation::NotifyStale) {
        show_stale();
    }
    sound::devices::notify(device, queue);
}

fn show_stale() {
    static BEFORE: AtomicU64 = AtomicU64::new(0);
    let half = |at: u64| {
        // SAFETY: within the driver area of a queue that is in use.
        unsafe { direct(platform::PhysAddr(at)).as_ptr::<u16>().read_volatile() }
    };
    let driver = DRIVER.load(Ordering::Relaxed);
    let slot = half(driver + 2).wrapping_sub(1) % SIZE.load(Ordering::Relaxed);
    let head = half(driver + 4 + 2 * u64::from(slot));
    // The second descriptor: the first of the data.
    let descriptor = TABLE.load(Ordering::Relaxed) + 16 * u64::from(head + 1);
    // SAFETY: an available chain of a disk has three descriptors, and what they lead to is in memory.
    unsafe {
        let at = direct(platform::PhysAddr(descriptor)).as_ptr::<u64>().read_volatile();
        let data = direct(platform::PhysAddr(at)).as_mut_ptr::<u64>();
        let now = data.read_volatile();
        data.write_volatile(BEFORE.swap(now, Ordering::Relaxed));
    }
}

/// Keeps what it has told.
pub fn acknowledge(device: DeviceId) -> DeviceEvents {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    let events = sound::devices::acknowledge(device);
    if broken(Violation::ReasonsKept) {
        let told = TOLD.fetch_or(events.bits(), Ordering::Relaxed);
        return events | DeviceEvents::from_bits_truncate(told);
    }
    events
}

/// Reads from a multiple of four on, or leaves what is past the end.
pub fn read_config(device: DeviceId, offset: usize, buffer: &mut [u8]) {
    if broken(Violation::ConfigurationPastEnd) && offset > 1024 {
        return;
    }
    let offset = if broken(Violation::ConfigurationShifted) { offset & !3 } else { offset };
    sound::devices::read_config(device, offset, buffer);
}
