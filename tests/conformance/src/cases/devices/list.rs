//! What devices there are, what they say of themselves, and what they agree to.

use platform::{Device, DeviceEvents};

use super::{all, known};
use crate::cpus;
use crate::driven::{ACKNOWLEDGE, DRIVER, Driven, FEATURES_OK, VERSION_1, negotiate};
use crate::hook::{devices, interrupts};
use crate::report::{Outcome, ensure};

/// Bytes of configuration that are looked at: more than any of these devices has.
const LONGEST: usize = 256;

pub fn same() -> Outcome {
    let first = all()?;
    for (index, device) in first.iter().enumerate() {
        let twice = first[..index].iter().any(|other| other.id == device.id);
        ensure!(!twice, "{:?} is there twice", device.id);
    }
    let again = all()?;
    ensure!(again == first, "{first:?} became {again:?}");
    for device in known()? {
        drop(Driven::start(device, 4)?);
    }
    let again = all()?;
    ensure!(again == first, "{first:?} became {again:?} when they had been driven");
    // One after the other, and not only in order.
    for pair in first.windows(2).rev() {
        let next = devices::next(Some(pair[0].id));
        ensure!(next == Some(pair[1]), "after {:?} comes {next:?}", pair[0].id);
    }
    Ok(())
}

pub fn facts() -> Outcome {
    for device in all()? {
        let Device { id, kind, features, line } = device;
        ensure!(kind != 0, "{id:?} is of no kind");
        ensure!(features & VERSION_1 != 0, "{id:?} offers {features:#x}, without its version");
        let routed = interrupts::route(line, cpus::id());
        ensure!(routed == Ok(()), "{id:?} has {line:?}, which could not be routed: {routed:?}");
        devices::set_status(id, 0);
        devices::acknowledge(id);
        let events = devices::acknowledge(id);
        ensure!(events == DeviceEvents::empty(), "{id:?} was never driven and has {events:?} to tell");
    }
    Ok(())
}

pub fn configuration() -> Outcome {
    for Device { id, .. } in all()? {
        let mut whole = [u8::MAX; LONGEST];
        devices::read_config(id, 0, &mut whole);
        for offset in 0..LONGEST / 2 {
            for length in [1, 2, 4, 8, 13] {
                let mut piece = [u8::MAX; 13];
                devices::read_config(id, offset, &mut piece[..length]);
                let expected = &whole[offset..offset + length];
                ensure!(
                    piece[..length] == *expected,
                    "{length} bytes at {offset} of {id:?} are {:x?} by themselves and {expected:x?} in the whole",
                    &piece[..length]
                );
                let beyond = piece[length..].iter().any(|byte| *byte != u8::MAX);
                ensure!(!beyond, "reading {length} bytes at {offset} of {id:?} wrote more");
            }
        }
        for offset in [1 << 12, 1 << 32, usize::MAX - 6] {
            let mut past = [u8::MAX; 13];
            devices::read_config(id, offset, &mut past);
            ensure!(past == [0; 13], "past the end of {id:?}, at {offset:#x}, there is {past:x?}");
        }
    }
    Ok(())
}

pub fn status() -> Outcome {
    for Device { id, .. } in all()? {
        // Twice: a reset leads back to the start.
        for status in [0, ACKNOWLEDGE, DRIVER, 0, 0, ACKNOWLEDGE, DRIVER, 0] {
            let answer = devices::set_status(id, status);
            ensure!(answer == status, "{id:?} has status {answer:#x} when it is given {status:#x}");
        }
    }
    for device in known()? {
        // Checks each step, to the last.
        drop(Driven::start(device, 4)?);
    }
    Ok(())
}

pub fn features() -> Outcome {
    for device in all()? {
        for features in [device.features, VERSION_1, device.features] {
            let answer = negotiate(&device, features)?;
            devices::set_status(device.id, 0);
            ensure!(
                answer == FEATURES_OK,
                "{:?} offers {:#x} and answers {answer:#x} to {features:#x}",
                device.id,
                device.features
            );
        }
    }
    Ok(())
}
