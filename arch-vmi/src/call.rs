//! A call's place in the text: bytes that fault until [`crate::patch`] writes over them, and a record of them.

/// One record, in section `.vmi_sites`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Site {
    /// The place's first byte.
    pub address: u64,
    /// Number of the call.
    pub call: u8,
    /// Bytes of the place.
    pub bytes: u8,
    reserved: [u8; 6],
}

/// Expands to the templates of a place; the block has the operands `vmi_call` and `vmi_bytes`.
macro_rules! place {
    () => {
        "9: .byte 0x0f, 0x0b
         .skip {vmi_bytes} - 2, 0xcc
         .pushsection .vmi_sites, \"a\", @progbits
         .quad 9b
         .byte {vmi_call}, {vmi_bytes}
         .skip 6
         .popsection"
    };
}
pub(crate) use place;

/// Makes a call whose convention is flags only, or native registers: the operands say all that changes.
macro_rules! vmi {
    ($call:ident $(, $($operands:tt)*)?) => {
        core::arch::asm!(
            $crate::call::place!(),
            vmi_call = const vmi_abi::Call::$call as u8,
            vmi_bytes = const $crate::native::place_bytes(vmi_abi::Call::$call),
            $($($operands)*)?
        )
    };
}
pub(crate) use vmi;

/// Makes a call of the System V convention.
macro_rules! vmi_system_v {
    ($call:ident $(, $register:tt = $argument:expr)* $(; $result:ident)?) => {
        $crate::call::vmi!(
            $call,
            $(in($register) $argument,)*
            $(lateout("rax") $result,)?
            clobber_abi("sysv64"),
        )
    };
}
pub(crate) use vmi_system_v;
