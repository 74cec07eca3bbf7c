//! All `unsafe` code of Portcullis, and nothing else.
//!
//! - [`locked`]: secrets in memory that is neither swapped nor dumped
//! - [`process`]: a child that is pid 1 of its own namespaces, and execution of
//!   a program by descriptor under another user
//! - [`signals`]: blocked, read from a descriptor, sent by number
//! - [`sev_guest`]: derived keys of the secure processor
//!
//! ```
//! use portcullis_sys::locked::Secret;
//!
//! let secret = Secret::new(vec![7; 32])?;
//! assert_eq!(secret.expose(), [7; 32]);
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod locked;
pub mod process;
pub mod sev_guest;
pub mod signals;
