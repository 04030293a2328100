//! The file calls of the C library, stood in for: a disk under test decides what becomes of each.
//!
//! The program's own calls, those of the standard library and those of SQLite all come here, so that the product
//! needs no seam for it. What is not on a disk under test goes to the kernel as it is.

#![allow(unsafe_code, reason = "only symbols of the C library's own kind stand in for it")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::disk::{Call, Place, Verdict, asked, finished};

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// What a call of C answers: a number, or -1 and an error number.
fn answer<T: From<i8>>(result: Result<T, Errno>) -> T {
    result.unwrap_or_else(|error| {
        // SAFETY: the C library gives each thread a place of its own.
        unsafe { *__errno_location() = error.raw_os_error() };
        T::from(-1)
    })
}

/// Lets the disk decide, makes the call, and tells the disk that it went well. `Err` when the disk forbade it.
fn with_disk<T>(call: Call, place: &Place<'_>, make: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    match asked(call, place) {
        Verdict::Go | Verdict::Half => {
            let made = make()?;
            finished(call, place);
            Ok(made)
        }
        Verdict::Fail(error) => Err(error),
    }
}

/// # Safety
/// As of the C library.
unsafe fn name<'a>(path: *const c_char) -> &'a CStr {
    // SAFETY: the caller's contract.
    unsafe { CStr::from_ptr(path) }
}

/// # Safety
/// As of the C library.
unsafe fn file<'a>(number: c_int) -> BorrowedFd<'a> {
    // SAFETY: the caller's contract.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// # Safety
/// As of the C library.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> &'a [u8] {
    // SAFETY: the caller's contract.
    unsafe { std::slice::from_raw_parts(start.cast(), len) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: u32) -> c_int {
    // SAFETY: the caller's contract.
    let path = unsafe { name(path) };
    let flags = OFlags::from_bits_retain(flags.cast_unsigned());
    let open = || Ok(rustix::fs::open(path, flags, Mode::from_bits_retain(mode))?.into_raw_fd());
    let call = if flags.intersects(OFlags::CREATE | OFlags::TRUNC) { Call::Create } else { Call::Open };
    answer(with_disk(call, &Place::Name(path), open))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: u32) -> c_int {
    // SAFETY: the caller's contract; files are large on every system that Berth runs on.
    unsafe { open64(path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn read(number: c_int, target: *mut c_void, len: usize) -> isize {
    // SAFETY: the caller's contract.
    let (file, target) = unsafe { (file(number), std::slice::from_raw_parts_mut(target.cast::<u8>(), len)) };
    let read = with_disk(Call::Read, &Place::File(file), || rustix::io::read(file, target));
    answer(read.map(usize::cast_signed))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pread64(number: c_int, target: *mut c_void, len: usize, at: i64) -> isize {
    // SAFETY: the caller's contract.
    let (file, target) = unsafe { (file(number), std::slice::from_raw_parts_mut(target.cast::<u8>(), len)) };
    let read = || rustix::io::pread(file, target, at.cast_unsigned());
    answer(with_disk(Call::Read, &Place::File(file), read).map(usize::cast_signed))
}

/// Writes, as far as the disk allows: a short write is half of it, and the next one finds no space.
fn write_with(
    file: BorrowedFd<'_>,
    bytes: &[u8],
    write: impl FnOnce(&[u8]) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    match asked(Call::Write, &Place::File(file)) {
        Verdict::Go => write(bytes),
        Verdict::Half => write(&bytes[..bytes.len() / 2]),
        Verdict::Fail(error) => Err(error),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(number: c_int, source: *const c_void, len: usize) -> isize {
    // SAFETY: the caller's contract.
    let (file, source) = unsafe { (file(number), bytes(source, len)) };
    let written = write_with(file, source, |bytes| rustix::io::write(file, bytes));
    answer(written.map(usize::cast_signed))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(number: c_int, source: *const c_void, len: usize, at: i64) -> isize {
    // SAFETY: the caller's contract.
    let (file, source) = unsafe { (file(number), bytes(source, len)) };
    let written = write_with(file, source, |bytes| rustix::io::pwrite(file, bytes, at.cast_unsigned()));
    answer(written.map(usize::cast_signed))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(number: c_int, len: i64) -> c_int {
    // SAFETY: the caller's contract.
    let file = unsafe { file(number) };
    let resize = || rustix::fs::ftruncate(file, len.cast_unsigned());
    answer(with_disk(Call::Resize, &Place::File(file), resize).map(|()| 0))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(number: c_int) -> c_int {
    // SAFETY: the caller's contract.
    let file = unsafe { file(number) };
    answer(with_disk(Call::Sync, &Place::File(file), || rustix::fs::fsync(file)).map(|()| 0))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(number: c_int) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { fsync(number) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: u32) -> c_int {
    // SAFETY: the caller's contract.
    let path = unsafe { name(path) };
    let make = || rustix::fs::mkdir(path, Mode::from_bits_retain(mode));
    answer(with_disk(Call::Create, &Place::Name(path), make).map(|()| 0))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn linkat(
    _: c_int,
    old: *const c_char,
    _: c_int,
    new: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's contract. The standard library gives no folders.
    let (old, new) = unsafe { (name(old), name(new)) };
    let flags = AtFlags::from_bits_retain(flags.cast_unsigned());
    let link = || rustix::fs::linkat(CWD, old, CWD, new, flags);
    answer(with_disk(Call::Create, &Place::Name(new), link).map(|()| 0))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(old: *const c_char, new: *const c_char) -> c_int {
    // SAFETY: the caller's contract.
    let (old, new) = unsafe { (name(old), name(new)) };
    let rename = || rustix::fs::rename(old, new);
    answer(with_disk(Call::Rename, &Place::Name(new), rename).map(|()| 0))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's contract.
    let path = unsafe { name(path) };
    answer(with_disk(Call::Remove, &Place::Name(path), || rustix::fs::unlink(path)).map(|()| 0))
}
