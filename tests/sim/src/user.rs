//! User mode: a program is a function of the test, registered under an address with [`crate::Machine::program`].
//!
//! Entering user mode with `rip` at a program's address calls the function on a stack of the build machine, which is
//! unknown to the kernel and to the program's registers. What the function calls here enters the kernel as the
//! processor would; interrupts are taken there too. The program's memory is what the kernel has mapped: it is reached by
//! [`read`], [`write`] and [`word`], which fault like any access.
//!
//! While a program is in the kernel, its `rip` is an address that stands for "go on after this call". The kernel may
//! keep it, hand it on and return to it (from a signal handler, say), and may set it back by the two bytes of a
//! `syscall` instruction to have the call made again. Each is good once; only [`fork_call`] comes back twice.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use platform::{Access, CpuId, Exception, TrapFrame, VirtAddr};

use crate::memory::USER_TOP;
use crate::pending::take;
use crate::stack::{self, HostStack};
use crate::state::{CpuState, UserEntry, facts, here, violation};
use crate::translate::{AccessError, access, through_stale};

type Program = Arc<dyn Fn(&TrapFrame) + Send + Sync>;

/// Where the addresses start that stand for "go on after this call", and how far apart they are.
const CALLS: u64 = 0x4800_0000_0000;
const CALL_STEP: u64 = 16;
const CALLS_END: u64 = 0x4900_0000_0000;
/// Bytes of a `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

/// One activation of a program: its stack and its registers as the kernel knows them.
struct Context {
    stack_pointer: Cell<u64>,
    stack_top: u64,
    registers: Cell<TrapFrame>,
    /// The kernel wants the call made again.
    again: Cell<bool>,
    program: Program,
}

// SAFETY: a context is used by the CPU that runs it; it is handed to another one through the kernel, whose locks order
// the two, and through CALLS_OPEN.
unsafe impl Sync for Context {}

/// A call that the kernel may return to.
struct Call {
    context: &'static Context,
    system_call: bool,
    /// What runs where the call returns zero, if that is a copy of the caller which has yet to run.
    child: Option<Program>,
    /// The caller itself has gone on.
    returned: bool,
}

#[derive(Default)]
struct Users {
    programs: BTreeMap<u64, Program>,
    open_calls: BTreeMap<u64, Call>,
    last_call: u64,
    /// Stacks of contexts that have ended.
    free_stacks: Vec<u64>,
    /// The context that left the CPU for good and whose stack is free once the kernel's is in use, by CPU.
    leaving: BTreeMap<CpuId, u64>,
}

static USERS: Mutex<Users> = Mutex::new(Users {
    programs: BTreeMap::new(),
    open_calls: BTreeMap::new(),
    last_call: 0,
    free_stacks: Vec::new(),
    leaving: BTreeMap::new(),
});

fn users() -> MutexGuard<'static, Users> {
    USERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a program; also while the machine runs.
///
/// # Panics
/// If the address is taken or no user address for programs.
pub fn register(address: u64, program: impl Fn(&TrapFrame) + Send + Sync + 'static) {
    assert!(address < CALLS, "no program can start at {address:#x}");
    let before = users().programs.insert(address, Arc::new(program));
    assert!(before.is_none(), "two programs start at {address:#x}");
}

/// How [`trap`] comes back.
enum Return {
    Once,
    Twice(Program),
    Never,
}

// --- what programs call

/// The `syscall` instruction: returns what the kernel leaves in `rax`.
pub fn system_call(number: u64, arguments: [u64; 6]) -> u64 {
    call(number, arguments, || Return::Once)
}

/// A system call that returns a second time, with zero, in a copy of the caller (`fork`, `clone`). A function cannot be
/// copied, so the copy runs `child`, with the registers it starts with.
pub fn fork_call(
    number: u64,
    arguments: [u64; 6],
    child: impl Fn(&TrapFrame) + Send + Sync + 'static,
) -> u64 {
    let child: Program = Arc::new(child);
    call(number, arguments, || Return::Twice(child.clone()))
}

/// A system call that does not return (`exit`, `rt_sigreturn`). What the program's function owns is not dropped.
pub fn last_call(number: u64, arguments: [u64; 6]) -> ! {
    call(number, arguments, || Return::Never);
    violation(format!("system call {number} returned, which cannot be"))
}

/// Accesses user memory as `access` says (a read, `WRITE` or `EXECUTE`), faulting until the kernel has made it possible.
pub fn touch(address: VirtAddr, access: Access) {
    reach(address, access);
}

/// Reads user memory.
pub fn read(address: VirtAddr, buffer: &mut [u8]) {
    let mut done = 0;
    while done < buffer.len() {
        let at = address + done as u64;
        let count = (buffer.len() - done).min((at.page() + platform::PAGE_SIZE - at) as usize);
        let from = reach(at, Access::empty());
        // SAFETY: the address is RAM in the direct map and good to the end of its page; other CPUs may write it, as
        // they may on hardware, and bytes have no invalid values.
        unsafe { buffer.as_mut_ptr().add(done).copy_from(from.as_ptr(), count) };
        done += count;
    }
}

/// Writes user memory.
pub fn write(address: VirtAddr, bytes: &[u8]) {
    let mut done = 0;
    while done < bytes.len() {
        let at = address + done as u64;
        let count = (bytes.len() - done).min((at.page() + platform::PAGE_SIZE - at) as usize);
        let to = reach(at, Access::WRITE);
        // SAFETY: as in `read`; nothing of Rust's own lies in user memory.
        unsafe { to.as_mut_ptr::<u8>().copy_from(bytes.as_ptr().add(done), count) };
        done += count;
    }
}

/// Does something atomic to a word of user memory (a futex, say); the address is a multiple of four.
pub fn word<T>(address: VirtAddr, operation: impl FnOnce(&AtomicU32) -> T) -> T {
    assert!(address.0.is_multiple_of(4), "{address:?} is not aligned for a word");
    let at = reach(address, Access::WRITE);
    // SAFETY: RAM in the direct map, aligned, and accessed by several CPUs as an atomic only.
    operation(unsafe { &*at.as_ptr::<AtomicU32>() })
}

/// Raises an exception.
pub fn raise(exception: Exception) {
    trap(UserEntry::Exception(exception), 0, Return::Once, |_| ());
}

/// Takes the interrupts that are pending, as a program that computes would; see also [`crate::run_for`].
pub fn take_interrupts() {
    loop {
        let cpu = in_user("take_interrupts");
        if !cpu.irq_enabled.load(SeqCst) {
            return;
        }
        let Some(interrupt) = take(cpu) else { return };
        trap(UserEntry::Interrupt(interrupt), 0, Return::Once, |_| ());
    }
}

/// The registers as the kernel last left them.
pub fn registers() -> TrapFrame {
    context(in_user("registers")).registers.get()
}

/// Changes registers, which the kernel sees at its next entry.
pub fn set_registers(edit: impl FnOnce(&mut TrapFrame)) {
    let context = context(in_user("set_registers"));
    let mut registers = context.registers.get();
    edit(&mut registers);
    context.registers.set(registers);
}

/// Which CPU the program runs on at this moment.
pub fn cpu() -> CpuId {
    in_user("cpu").id
}

/// FS base.
pub fn fs_base() -> u64 {
    in_user("fs_base").user_fs.load(SeqCst)
}

/// Sets the FS base as `wrfsbase` would.
pub fn set_fs_base(base: u64) {
    in_user("set_fs_base").user_fs.store(base, SeqCst);
}

/// The register that stands for all extended ones.
pub fn vector() -> u64 {
    in_user("vector").vector.load(SeqCst)
}

/// Sets the register that stands for all extended ones.
pub fn set_vector(value: u64) {
    in_user("set_vector").vector.store(value, SeqCst);
}

// --- the way into the kernel

fn in_user(what: &str) -> &'static CpuState {
    let cpu = here(what);
    if cpu.user_context.load(SeqCst) == 0 {
        violation(format!("user::{what} was called in the kernel"));
    }
    cpu
}

fn context(cpu: &CpuState) -> &'static Context {
    let context = cpu.user_context.load(SeqCst) as *const Context;
    // SAFETY: not null (`in_user`), and contexts live for ever.
    unsafe { &*context }
}

fn call(number: u64, arguments: [u64; 6], returns: impl Fn() -> Return) -> u64 {
    let (mut number, mut arguments) = (number, arguments);
    loop {
        take_interrupts();
        let [a, b, c, d, e, f] = arguments;
        let frame = trap(UserEntry::SystemCall, SYSCALL_BYTES, returns(), |frame| {
            (frame.rax, frame.orig_rax) = (number, number);
            (frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9) = (a, b, c, d, e, f);
            (frame.rcx, frame.r11) = (frame.rip, frame.rflags);
        });
        if !context(in_user("system_call")).again.take() {
            return frame.rax;
        }
        number = frame.rax;
        arguments = [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9];
    }
}

/// Where user memory is on the build machine, once the kernel has made the access possible.
fn reach(address: VirtAddr, wanted: Access) -> VirtAddr {
    loop {
        take_interrupts();
        let cpu = in_user("touch");
        match access(cpu.id, address, wanted | Access::USER) {
            Ok(reached) => return reached,
            Err(AccessError::Stale { stale, reaches }) => return through_stale(cpu.id, &stale, reaches),
            Err(AccessError::Fault(access)) => raise(Exception::PageFault { address, access }),
        }
    }
}

/// Enters the kernel; `edit` sets registers. Comes back, perhaps on another CPU, with those the kernel left.
fn trap(
    entry: UserEntry,
    instruction_bytes: u64,
    returns: Return,
    edit: impl FnOnce(&mut TrapFrame),
) -> TrapFrame {
    let cpu = in_user("trap");
    let context = context(cpu);
    let mut frame = context.registers.get();
    {
        let mut users = users();
        users.last_call += 1;
        let number = users.last_call;
        frame.rip = CALLS + number * CALL_STEP + instruction_bytes;
        let system_call = matches!(entry, UserEntry::SystemCall);
        let child = match returns {
            Return::Never => {
                users.leaving.insert(cpu.id, context.stack_top);
                None
            }
            Return::Once => Some(None),
            Return::Twice(child) => Some(Some(child)),
        };
        if let Some(child) = child {
            users.open_calls.insert(number, Call { context, system_call, child, returned: false });
        }
    }
    frame.orig_rax = u64::MAX;
    edit(&mut frame);
    let top = prepare_entry(cpu, entry, &frame);
    // SAFETY: the kernel's stack is free while user mode runs, by the contract of `set_kernel_stack`; the pointer is to
    // a context, which lives for ever and which nobody resumes before it has been saved: the kernel has not run yet.
    unsafe { stack::leave(context.stack_pointer.as_ptr(), top, kernel_side) };
    context.registers.get()
}

/// Leaves what [`kernel_side`] needs; returns the top of the kernel stack.
fn prepare_entry(cpu: &CpuState, entry: UserEntry, frame: &TrapFrame) -> u64 {
    let local = cpu.local.load(SeqCst);
    // SAFETY: null or the CPU's private data, which lives for ever; the field belongs to the platform.
    let top = if local.is_null() { 0 } else { unsafe { (&raw const (*local).kernel_stack).read().0 } };
    if top == 0 {
        violation(format!("CPU {} enters the kernel from user mode but has no kernel stack", cpu.id.0));
    }
    *cpu.entry.lock().unwrap_or_else(PoisonError::into_inner) = Some((entry, *frame));
    cpu.irq_enabled.store(false, SeqCst);
    cpu.user_access.store(false, SeqCst);
    cpu.user_context.store(0, SeqCst);
    top
}

/// The entry code: runs on the kernel stack.
extern "sysv64" fn kernel_side(_: u64) -> ! {
    let mut frame = enter_kernel();
    let cpu = here("an entry from user mode");
    if cpu.irq_enabled.load(SeqCst) {
        violation(format!("the kernel returned from an entry with interrupts enabled on CPU {}", cpu.id.0));
    }
    frame.orig_rax = u64::MAX;
    return_to_user(&frame)
}

#[inline(never)]
fn enter_kernel() -> TrapFrame {
    let cpu = here("an entry from user mode");
    {
        let mut users = users();
        if let Some(stack) = users.leaving.remove(&cpu.id) {
            users.free_stacks.push(stack);
        }
    }
    let entry = cpu.entry.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (entry, mut frame) = entry.expect("prepare_entry left one");
    let entries = &facts().entries;
    match entry {
        UserEntry::SystemCall => (entries.system_call)(&mut frame),
        UserEntry::Exception(exception) => (entries.exception)(exception, &mut frame),
        UserEntry::Interrupt(interrupt) => (entries.interrupt)(interrupt, &mut frame),
    }
    frame
}

// --- the way out of the kernel

/// Where user mode goes on.
enum Target {
    Resume { context: &'static Context, again: bool },
    Start { context: &'static Context },
    Raise(Exception),
}

/// Leaves the kernel with these registers; the current stack is abandoned.
pub fn return_to_user(frame: &TrapFrame) -> ! {
    let cpu = here("the return to user mode");
    if !frame.is_user() {
        violation(format!("the kernel enters user mode with a kernel frame: {frame:?}"));
    }
    if cpu.user_access.load(SeqCst) {
        violation("the kernel enters user mode without Cpu::user_access_end".to_owned());
    }
    cpu.irq_enabled.store(frame.interrupts_enabled(), SeqCst);
    if frame.interrupts_enabled()
        && let Some(interrupt) = take(cpu)
    {
        enter_again(cpu, UserEntry::Interrupt(interrupt), frame);
    }
    match target(cpu, frame) {
        Target::Raise(exception) => enter_again(cpu, UserEntry::Exception(exception), frame),
        Target::Resume { context, again } => {
            context.registers.set(*frame);
            context.again.set(again);
            cpu.user_context.store(context as *const Context as usize, SeqCst);
            // SAFETY: the context has left by `trap`, and its open call was taken by this CPU: it is resumed once.
            unsafe { stack::resume(context.stack_pointer.get()) }
        }
        Target::Start { context } => {
            cpu.user_context.store(context as *const Context as usize, SeqCst);
            // SAFETY: a stack that only this context uses; the function never returns.
            unsafe { stack::start(context.stack_top, user_main, context as *const Context as u64) }
        }
    }
}

/// Something came up on the way to user mode: enters the kernel as from there.
fn enter_again(cpu: &CpuState, entry: UserEntry, frame: &TrapFrame) -> ! {
    let top = prepare_entry(cpu, entry, frame);
    // SAFETY: the kernel is leaving: nothing on any of its stacks is needed by this CPU any more.
    unsafe { stack::start(top, kernel_side, 0) }
}

fn target(cpu: &CpuState, frame: &TrapFrame) -> Target {
    if (CALLS..CALLS_END).contains(&frame.rip) {
        return call_target(frame);
    }
    // The instruction is fetched before it is known to be a program.
    let fetch = access(cpu.id, VirtAddr(frame.rip), Access::EXECUTE | Access::USER);
    if let Err(AccessError::Fault(access)) = fetch {
        return Target::Raise(Exception::PageFault { address: VirtAddr(frame.rip), access });
    }
    if let Err(AccessError::Stale { stale, reaches }) = fetch {
        through_stale(cpu.id, &stale, reaches);
    }
    let program = users().programs.get(&frame.rip).cloned();
    match program {
        Some(program) => Target::Start { context: new_context(program, frame) },
        None => Target::Raise(Exception::InvalidOpcode),
    }
}

/// Goes on after a call, or makes it again.
fn call_target(frame: &TrapFrame) -> Target {
    let number = (frame.rip - CALLS) / CALL_STEP;
    let at_instruction = (frame.rip - CALLS).is_multiple_of(CALL_STEP);
    let mut users = users();
    let Some(call) = users.open_calls.get_mut(&number) else {
        drop(users);
        violation(format!("the kernel returns to {:#x}: that call has returned or never will", frame.rip));
    };
    let again = at_instruction && call.system_call;
    let child = if frame.rax == 0 && !again { call.child.take() } else { None };
    let returned = call.returned;
    call.returned |= child.is_none();
    let context = call.context;
    if call.returned && (call.child.is_none() || again) {
        users.open_calls.remove(&number);
    }
    drop(users);
    match child {
        Some(child) => Target::Start { context: new_context(child, frame) },
        None if returned => violation(format!("the kernel returns to {:#x} twice", frame.rip)),
        None => Target::Resume { context, again },
    }
}

fn new_context(program: Program, frame: &TrapFrame) -> &'static Context {
    let free = users().free_stacks.pop();
    Box::leak(Box::new(Context {
        stack_pointer: Cell::new(0),
        stack_top: free.unwrap_or_else(|| HostStack::new().top),
        registers: Cell::new(*frame),
        again: Cell::new(false),
        program,
    }))
}

extern "sysv64" fn user_main(context: u64) -> ! {
    // SAFETY: `return_to_user` passes a context, and contexts live for ever.
    let context = unsafe { &*(context as *const Context) };
    (context.program)(&context.registers.get());
    // The function returned: to address 0, as a program without a caller does.
    let access = Access::EXECUTE | Access::USER;
    raise(Exception::PageFault { address: VirtAddr(0), access });
    violation("the kernel went on with a program that has returned".to_owned())
}

const _: () = assert!(CALLS_END < USER_TOP);
