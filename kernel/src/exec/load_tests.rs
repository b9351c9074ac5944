//! Loading on the simulated platform: what a program finds in its memory.

use std::borrow::Cow;

use platform::{BootInfo, CpuId, End, Exception, Interrupt, PhysFrame, TrapFrame};

use super::*;
use crate::exec::elf::Segment;
use crate::exec::strings::StringList;
use crate::hook::{self, power};
use crate::mm::{self, frames};
use crate::percpu;

const PAGE: usize = PAGE_SIZE as usize;
const TEXT: Protection = Protection::READ.union(Protection::EXECUTE);
const DATA: Protection = Protection::READ.union(Protection::WRITE);
const CASES: &[fn()] =
    &[places_everything, zeros_follow_the_file, shares_a_page, moves_what_can_move, gives_up_cleanly];

/// A kernel that runs the cases and ends.
struct Cases;

impl platform::Kernel for Cases {
    fn boot(info: &'static BootInfo) -> ! {
        percpu::init_boot_cpu();
        mm::set_direct_map(info.direct_map);
        mm::user::set_user_top(info.user_top);
        frames::init(info).expect("there is memory");
        hook::boot::discover().expect("the machine is usable");
        vdso::init();
        set_randomized(false);
        for case in CASES {
            // What stays allocated for good is so after the first time.
            case();
            let before = frames::totals();
            case();
            assert_eq!(frames::totals(), before, "frames are lost");
        }
        power::end(End::PowerOff)
    }

    fn secondary(_: CpuId) -> ! {
        unreachable!("there is one CPU")
    }

    fn system_call(_: &mut TrapFrame) {}

    fn exception(exception: Exception, _: &mut TrapFrame) {
        panic!("{exception:?}");
    }

    fn interrupt(_: Interrupt, _: &mut TrapFrame) {}

    fn allocate_table_frame() -> Option<PhysFrame> {
        frames::allocate_table()
    }

    fn free_table_frame(frame: PhysFrame) {
        frames::free_table(frame);
    }
}

#[test]
fn programs_are_loaded() {
    sim::in_fresh_process("exec::load::tests::programs_are_loaded", || {
        sim::Machine::new().run::<Cases>().expect(End::PowerOff);
    });
}

/// A file whose byte at `offset` is [`byte_at`] of it.
struct File {
    pages: Vec<Page>,
}

fn byte_at(offset: usize) -> u8 {
    (offset / PAGE * 16 + offset % 13 + 1) as u8
}

impl File {
    fn of_pages(pages: usize) -> Arc<dyn MappedFile> {
        let pages = (0..pages).map(|index| {
            let page = Page::zeroed().unwrap();
            let bytes: Vec<u8> = (0..PAGE).map(|at| byte_at(index * PAGE + at)).collect();
            page.write(0, &bytes);
            page
        });
        Arc::new(Self { pages: pages.collect() })
    }
}

impl MappedFile for File {
    fn map_page(&self, index: u64, _: MapIntent) -> KResult<Page> {
        self.pages.get(index as usize).cloned().ok_or(Errno::EFAULT)
    }

    fn identity(&self) -> (u64, u64) {
        (1, 1)
    }

    fn path(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(b"/program")
    }
}

fn segment(
    vaddr: u64,
    file_offset: u64,
    file_size: u64,
    memory_size: u64,
    protection: Protection,
) -> Segment {
    Segment { vaddr, memory_size, file_size, file_offset, protection, index: 0 }
}

fn plan(segments: Vec<Segment>) -> LoadPlan {
    LoadPlan {
        entry: segments[0].vaddr + 0x10,
        program_headers: Some(segments[0].vaddr + 64),
        segments,
        program_header_count: 2,
        executable_stack: false,
        alignment: PAGE_SIZE,
        needs_bias: false,
    }
}

fn start() -> Start {
    let (mut arguments, mut environment) = (StringList::new(), StringList::new());
    arguments.push(b"program").unwrap();
    arguments.push(b"argument").unwrap();
    environment.push(b"HOME=/").unwrap();
    Start { file_name: b"/bin/program".to_vec(), arguments, environment, name_stays: true }
}

fn loaded(plan: &LoadPlan) -> KResult<Loaded> {
    let credentials = Credentials::root();
    let identity = Identity { credentials: &credentials, secure: false };
    load(plan, File::of_pages(8), &start(), &identity, 8 << 20)
}

/// What the program reads at `address`: its access is made possible first.
fn read(space: &AddressSpace, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let at = VirtAddr(address + bytes.len() as u64);
        if space.frame_at(at).is_none() {
            space.fault(at, Access::USER).unwrap();
        }
        let frame = space.frame_at(at).unwrap();
        let offset = (at.0 % PAGE_SIZE) as usize;
        let mut part = vec![0; (length - bytes.len()).min(PAGE - offset)];
        let page = Page::from_held(frame);
        page.read(offset, &mut part);
        // The space holds the frame; it was only looked at.
        page.into_held();
        bytes.extend(part);
    }
    bytes
}

fn word(space: &AddressSpace, address: u64) -> u64 {
    u64::from_le_bytes(read(space, address, 8).try_into().unwrap())
}

fn file_bytes(offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length).map(byte_at).collect()
}

fn auxiliary_value(space: &AddressSpace, kind: u64) -> Option<u64> {
    let (mut at, end) = space.layout().program.auxiliary;
    while at < end {
        if word(space, at) == kind {
            return Some(word(space, at + 8));
        }
        at += 16;
    }
    None
}

fn places_everything() {
    let text = segment(0x40_0000, 0, 0x1800, 0x1800, TEXT);
    let data = segment(0x40_3100, 0x2100, 0x200, 0x200, DATA);
    let loaded = loaded(&plan(vec![text, data])).unwrap();
    let space = &loaded.space;
    assert!(space.is_resident(VirtAddr(0x40_0000)), "the first instruction");
    assert_eq!(read(space, 0x40_0000, 0x1800), file_bytes(0, 0x1800));
    assert_eq!(read(space, 0x40_3100, 0x200), file_bytes(0x2100, 0x200));
    assert_eq!((loaded.entry, loaded.stack_pointer % 16), (0x40_0010, 0));

    assert_eq!(word(space, loaded.stack_pointer), 2);
    assert_eq!(read(space, word(space, loaded.stack_pointer + 8), 8), b"program\0");
    assert_eq!(read(space, word(space, loaded.stack_pointer + 16), 9), b"argument\0");
    assert_eq!(read(space, word(space, loaded.stack_pointer + 32), 7), b"HOME=/\0");
    let program = space.layout().program;
    let text_of = |(start, end): (u64, u64)| read(space, start, (end - start) as usize);
    assert_eq!(text_of(program.arguments), b"program\0argument\0");
    assert_eq!(text_of(program.environment), b"HOME=/\0");
    assert_eq!((program.code, program.data), ((0x40_0000, 0x40_1800), (0x40_3100, 0x40_3300)));

    assert_eq!(auxiliary_value(space, at::ENTRY), Some(0x40_0010));
    assert_eq!(auxiliary_value(space, at::PROGRAM_HEADERS), Some(0x40_0040));
    assert_eq!(auxiliary_value(space, at::SECURE), Some(0));
    let name = auxiliary_value(space, at::FILE_NAME).unwrap();
    assert_eq!(read(space, name, 13), b"/bin/program\0");
    let vdso = auxiliary_value(space, at::VDSO).unwrap();
    assert_eq!(read(space, vdso, 4), b"\x7fELF");

    let layout = space.layout();
    assert_eq!((layout.brk_start, layout.brk), (VirtAddr(0x40_4000), VirtAddr(0x40_4000)));
    let stack = layout.find(VirtAddr(loaded.stack_pointer)).unwrap();
    assert_eq!((stack.range.size(), stack.protection), (8 << 20, DATA));
    assert!(stack.range.end() <= vdso && layout.map_top.0 < stack.range.start());
    assert!(stack.range.end().next_multiple_of(2 << 20) >= vdso, "both share a translation table");
    assert!(layout.find(VirtAddr(stack.range.start() - 1)).is_none());
    assert!(layout.executable.is_some());
}

fn zeros_follow_the_file() {
    // Part of a page, whole pages, and no page of the file at all.
    let data = segment(0x60_0100, 0x100, 0x1234, 0x5000, DATA);
    let constants = segment(0x70_0000, 0x2000, 0x10, 0x20, Protection::READ);
    let bss = segment(0x80_0800, 0, 0, 0x1000, DATA);
    let loaded = loaded(&plan(vec![data, constants, bss])).unwrap();
    let space = &loaded.space;
    assert_eq!(read(space, 0x60_0100, 0x1234), file_bytes(0x100, 0x1234));
    assert_eq!(read(space, 0x60_0100 + 0x1234, 0x5000 - 0x1234), vec![0; 0x5000 - 0x1234]);
    assert_eq!(read(space, 0x70_0000, 0x20), [file_bytes(0x2000, 0x10), vec![0; 0x10]].concat());
    assert_eq!(read(space, 0x80_0000, 0x2000), vec![0; 0x2000]);
    // What was made for the program is its own: a child finds the zeros, too.
    let child = space.fork().unwrap();
    assert_eq!(read(&child, 0x70_0000, 0x20), [file_bytes(0x2000, 0x10), vec![0; 0x10]].concat());
    assert_eq!(read(&child, 0x60_0100 + 0x1234, 16), vec![0; 16]);
}

fn shares_a_page() {
    // Linkers let two segments lie in one page of the file; both find all of it.
    let text = segment(0x40_0000, 0, 0x1800, 0x1800, TEXT);
    let data = segment(0x40_1800, 0x1800, 0x100, 0x900, DATA);
    let loaded = loaded(&plan(vec![text, data])).unwrap();
    assert_eq!(read(&loaded.space, 0x40_0000, 0x1900), file_bytes(0, 0x1900));
    assert_eq!(read(&loaded.space, 0x40_1900, 0x800), vec![0; 0x800]);
    let protection = |address| loaded.space.layout().find(VirtAddr(address)).unwrap().protection;
    assert_eq!((protection(0x40_0000), protection(0x40_1000)), (TEXT, DATA));
}

fn moves_what_can_move() {
    let text = segment(0, 0, 0x1000, 0x1000, TEXT);
    let data = segment(0x1000, 0x1000, 0x1000, 0x1000, DATA);
    let mut plan = plan(vec![text, data]);
    (plan.needs_bias, plan.alignment) = (true, 2 << 20);
    let loaded = loaded(&plan).unwrap();
    let bias = loaded.entry - 0x10;
    assert!(bias > mm::user::user_top().0 / 2 && bias.is_multiple_of(2 << 20));
    assert_eq!(read(&loaded.space, bias, 0x2000), file_bytes(0, 0x2000));
    assert_eq!(auxiliary_value(&loaded.space, at::ENTRY), Some(bias + 0x10));
    assert_eq!(auxiliary_value(&loaded.space, at::PROGRAM_HEADERS), Some(bias + 64));
    assert_eq!(loaded.space.layout().brk_start, VirtAddr(bias + 0x2000));
}

fn gives_up_cleanly() {
    // The second segment is where the stack goes; the third lies beyond the file.
    let text = segment(0x40_0000, 0, 0x1000, 0x1000, TEXT);
    let high = segment(mm::user::user_top().0 - 0x10_0000, 0, 0x1000, 0x1000, DATA);
    assert_eq!(loaded(&plan(vec![text, high])).err(), Some(Errno::ENOMEM));
    let missing = segment(0x60_0000, 0x10_0000, 0x100, 0x200, DATA);
    assert_eq!(loaded(&plan(vec![text, missing])).err(), Some(Errno::EFAULT));
}
