//! The QEMU command line for a guest.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use vmi_abi::SCAN_START;

use crate::rom::Placed;

/// A machine model, with QEMU's options for it after a comma.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine(String);

impl FromStr for Machine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split(',').next().unwrap_or_default() {
            "pc" | "q35" | "microvm" => Ok(Self(text.to_owned())),
            other => {
                Err(format!("`{other}` is not one of pc, q35, microvm (QEMU's options may follow a comma)"))
            }
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Machine {
    /// Whether its firmware leaves the memory where option ROMs go as it finds it, instead of copying ROMs there.
    pub fn leaves_roms_alone(&self) -> bool {
        self.0.starts_with("microvm")
    }

    /// Whether it has a PCI bus with slots to spare.
    pub fn has_pci(&self) -> bool {
        !self.0.starts_with("microvm")
    }

    /// The same machine, telling the kernel of its virtio devices in words on the command line, as it does for Linux if
    /// there is no ACPI.
    pub fn telling_of_devices(&self) -> Self {
        Self(format!("{},acpi=off,auto-kernel-cmdline=on", self.0))
    }

    /// The value for `-M`.
    fn argument(&self) -> String {
        match self.0.strip_prefix("microvm") {
            Some(options) => format!("microvm,isa-serial=on,auto-kernel-cmdline=off{options}"),
            None => self.0.clone(),
        }
    }
}

/// The virtual machine a guest runs on.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Hardware {
    /// pc, q35 or microvm; QEMU's options for the machine may follow, as in microvm,pit=off
    #[arg(long, default_value = "pc", value_name = "MACHINE")]
    pub machine: Machine,

    /// The CPU model, by QEMU's name for it
    #[arg(long, default_value = "max", value_name = "MODEL")]
    pub cpu: String,

    /// How many CPUs
    #[arg(long, default_value = "1", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub smp: u16,

    /// Memory in MiB
    #[arg(long, default_value = "128", value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub memory: u32,

    /// Make the guest's clock advance one nanosecond per instruction (deterministic counts)
    #[arg(long)]
    pub icount: bool,

    /// A further argument for QEMU; may be given several times
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_args: Vec<OsString>,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            machine: Machine("pc".to_owned()),
            cpu: "max".to_owned(),
            smp: 1,
            memory: 128,
            icount: false,
            qemu_args: Vec::new(),
        }
    }
}

/// What the guest's serial port is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// A terminal that QEMU's monitor shares: Ctrl-A x quits, Ctrl-C goes to the guest
    Terminal,
    /// Standard input and output as they are, each byte passed on
    Plain,
}

/// Everything a QEMU command line is made from.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The emulator
    pub qemu: PathBuf,
    /// The machine
    pub hardware: Hardware,
    /// The kernel
    pub image: PathBuf,
    /// The initramfs, if there is one
    pub initrd: Option<PathBuf>,
    /// The kernel command line
    pub append: String,
    /// The file that becomes the status channel
    pub status: PathBuf,
    /// The serial port's other end
    pub console: Console,
    /// Where to wait for gdb before the first instruction
    pub gdb: Option<PathBuf>,
    /// The VMI ROM, if there is one
    pub rom: Option<Placed>,
}

impl Launch {
    /// The arguments, without the emulator itself.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |argument: &dyn AsRef<OsStr>| arguments.push(argument.as_ref().to_owned());
        let hardware = &self.hardware;
        for fixed in ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"] {
            add(&fixed);
        }
        add(&"-M");
        add(&hardware.machine.argument());
        // Instructions are counted by one thread for all CPUs.
        add(&"-accel");
        add(&if hardware.icount { "tcg,thread=single" } else { "tcg,thread=multi" });
        if hardware.icount {
            add(&"-icount");
            add(&"shift=0");
        }
        for (option, value) in [
            ("-cpu", hardware.cpu.clone()),
            ("-smp", hardware.smp.to_string()),
            ("-m", format!("{}M", hardware.memory)),
        ] {
            add(&option);
            add(&value);
        }
        match self.console {
            Console::Terminal => {
                add(&"-serial");
                add(&"mon:stdio");
            }
            Console::Plain => {
                for argument in [
                    "-chardev",
                    "stdio,id=console,signal=on",
                    "-serial",
                    "chardev:console",
                    "-monitor",
                    "none",
                ] {
                    add(&argument);
                }
            }
        }
        add(&"-chardev");
        add(&option_with_path("file,id=status,path=", &self.status, ""));
        add(&"-device");
        add(&"isa-debugcon,iobase=0xe9,chardev=status");
        add(&"-device");
        add(&"isa-debug-exit,iobase=0xf4,iosize=0x4");
        if let Some(socket) = &self.gdb {
            add(&"-chardev");
            add(&option_with_path("socket,id=gdb,server=on,wait=off,path=", socket, ""));
            add(&"-gdb");
            add(&"chardev:gdb");
            add(&"-S");
        }
        if let Some(rom) = &self.rom {
            for argument in rom_arguments(rom, &hardware.machine) {
                add(&argument);
            }
        }
        add(&"-kernel");
        add(&self.image);
        if let Some(initrd) = &self.initrd {
            add(&"-initrd");
            add(initrd);
        }
        add(&"-append");
        add(&self.append);
        for argument in &hardware.qemu_args {
            add(argument);
        }
        arguments
    }

    /// The command as a shell takes it.
    pub fn shell_line(&self) -> String {
        let mut words = vec![shell_quote(self.qemu.as_os_str())];
        words.extend(self.arguments().iter().map(|argument| shell_quote(argument)));
        words.join(" ")
    }
}

/// A VMI ROM. Firmware copies option ROMs to where a guest looks for them, and lets nobody write there any more. That of
/// microvm does not, and none copies a ROM with something wrong: those are put into memory directly.
fn rom_arguments(rom: &Placed, machine: &Machine) -> Vec<OsString> {
    let before = rom.before.as_ref();
    if rom.at.is_none() && !machine.leaves_roms_alone() {
        let files = before.map(|(file, _)| file).into_iter().chain([&rom.file]);
        return files.flat_map(|file| ["-option-rom".into(), file.clone().into()]).collect();
    }
    let address = rom.at.unwrap_or(SCAN_START + before.map_or(0, |(_, bytes)| *bytes));
    let loader = format!(",addr={address:#x},force-raw=on");
    vec!["-device".into(), option_with_path("loader,file=", &rom.file, &loader).into()]
}

/// An option whose value is a path; QEMU splits options at commas unless they are doubled.
pub fn option_with_path(before: &str, path: &Path, after: &str) -> String {
    format!("{before}{}{after}", path.to_string_lossy().replace(',', ",,"))
}

/// Quotes a word for a POSIX shell where that is needed.
pub fn shell_quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(hardware: Hardware) -> Launch {
        Launch {
            qemu: "qemu-system-x86_64".into(),
            hardware,
            image: "/t/monoguest".into(),
            initrd: Some("/t/initramfs".into()),
            append: "console=ttyS0 a=\"b c\"".into(),
            status: "/t/a,b/status".into(),
            console: Console::Plain,
            gdb: None,
            rom: None,
        }
    }

    #[test]
    fn roms_are_left_to_firmware_where_it_takes_them() {
        let line = |machine: &str, at| {
            let hardware = Hardware { machine: machine.parse().unwrap(), ..Hardware::default() };
            let before = Some(("/t/b".into(), 2048));
            let rom = Some(Placed { file: "/t/a,b".into(), before, at });
            Launch { rom, ..launch(hardware) }.shell_line()
        };
        assert!(line("q35", None).contains("-option-rom /t/b -option-rom /t/a,b"));
        for (line, address) in
            [(line("microvm,pit=off", None), "0xc0800"), (line("pc", Some(0xdf800)), "0xdf800")]
        {
            assert!(line.contains(&format!("loader,file=/t/a,,b,addr={address},force-raw=on")), "{line}");
        }
    }

    #[test]
    fn machines_are_checked() {
        assert!("q35".parse::<Machine>().is_ok());
        assert!("isapc".parse::<Machine>().unwrap_err().contains("microvm"));
        let machine: Machine = "microvm,pit=off".parse().unwrap();
        assert_eq!(machine.argument(), "microvm,isa-serial=on,auto-kernel-cmdline=off,pit=off");
    }

    #[test]
    fn commas_in_paths_and_blanks_in_words_survive() {
        let line = launch(Hardware::default()).shell_line();
        assert!(line.contains("path=/t/a,,b/status"), "{line}");
        assert!(line.contains("-append 'console=ttyS0 a=\"b c\"'"), "{line}");
        assert_eq!(shell_quote(OsStr::new("it's")), r"'it'\''s'");
        assert_eq!(shell_quote(OsStr::new("")), "''");
    }

    #[test]
    fn instruction_counting_needs_one_thread() {
        let line = launch(Hardware { icount: true, ..Hardware::default() }).shell_line();
        assert!(line.contains("tcg,thread=single") && line.contains("-icount shift=0"), "{line}");
        assert!(!launch(Hardware::default()).shell_line().contains("icount"));
    }
}
