//! `SNP_GET_DERIVED_KEY` of `/dev/sev-guest` (linux/include/uapi/linux/sev-guest.h).
//!
//! The `sev` crate's request has no `KEY_SEL`, so a chip with a VLEK would derive from
//! the VLEK, which a whole cloud shares. Here `KEY_SEL` is 1: VCEK.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use zeroize::Zeroizing;

/// `_IOWR('S', 0x1, struct snp_guest_request_ioctl)`.
const SNP_GET_DERIVED_KEY: libc::c_ulong = 0xc020_5301;
/// `SNP_GUEST_VMM_ERR_BUSY`.
const THROTTLED: u64 = 2;
const MESSAGE_VERSION: u8 = 1;
/// Root key VCEK (bit 0 clear), `KEY_SEL` 1 in bits 2:1.
const ROOT_VCEK: u32 = 1 << 1;

#[repr(C)]
struct GuestRequest {
    message_version: u8,
    request: u64,
    response: u64,
    exit_info: u64,
}

#[repr(C)]
struct KeyRequest {
    root_key_select: u32,
    reserved: u32,
    guest_field_select: u64,
    vmpl: u32,
    guest_svn: u32,
    tcb_version: u64,
}

/// MSG_KEY_RSP: status, 28 reserved bytes, 32 bytes of key.
#[repr(C)]
struct KeyResponse {
    status: u32,
    reserved: [u8; 28],
    key: [u8; 32],
}

/// Derives a key from the VCEK.
///
/// # Errors
/// I/O errors of the device; a status that the firmware reports.
pub fn derived_key(device: &File, fields: u64, guest_svn: u32, tcb_version: u64) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut request = KeyRequest {
        root_key_select: ROOT_VCEK,
        reserved: 0,
        guest_field_select: fields,
        vmpl: 0,
        guest_svn,
        tcb_version,
    };
    let mut response = KeyResponse { status: 0, reserved: [0; 28], key: [0; 32] };
    let mut ioctl = GuestRequest {
        message_version: MESSAGE_VERSION,
        request: std::ptr::from_mut(&mut request) as u64,
        response: std::ptr::from_mut(&mut response) as u64,
        exit_info: 0,
    };
    // SAFETY: the three structures have the layout that the kernel expects and
    // live until the call returns; the kernel writes to response and exit_info.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SNP_GET_DERIVED_KEY, std::ptr::from_mut(&mut ioctl)) };
    let key = Zeroizing::new(response.key);
    zeroize::Zeroize::zeroize(&mut response.key);
    match (result, response.status) {
        (0, 0) => Ok(key),
        (0, status) => Err(io::Error::other(format!("firmware status {status:#x}"))),
        _ => {
            // The kind shows whether to retry; a throttled host is visible in the upper half of
            // exit_info.
            let error = io::Error::last_os_error();
            let kind = if ioctl.exit_info >> 32 == THROTTLED { io::ErrorKind::ResourceBusy } else { error.kind() };
            Err(io::Error::new(kind, format!("{error}, exit info {:#x}", ioctl.exit_info)))
        }
    }
}
