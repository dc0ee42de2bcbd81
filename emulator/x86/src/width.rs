//! Operand widths as types.

/// The width of an integer operand.
pub trait Width: Copy + 'static {
    /// Width in bits.
    const BITS: u32;
    /// Width in bytes.
    const BYTES: u64 = Self::BITS as u64 / 8;
    /// All bits of the operand.
    const MASK: u64 = if Self::BITS == 64 {
        !0
    } else {
        (1 << (Self::BITS % 64)) - 1
    };
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::BITS - 1);

    /// Zero-extends the low `BITS` of `value`.
    #[inline(always)]
    fn zext(value: u64) -> u64 {
        value & Self::MASK
    }

    /// Sign-extends the low `BITS` of `value`.
    #[inline(always)]
    fn sext(value: u64) -> u64 {
        ((value << (64 - Self::BITS)) as i64 >> (64 - Self::BITS)) as u64
    }

    /// Reads a value at `ptr`, zero-extended.
    ///
    /// # Safety
    /// `ptr` is valid for `BYTES` bytes.
    unsafe fn load(ptr: *const u8) -> u64;

    /// Writes the low `BITS` of `value` at `ptr`.
    ///
    /// # Safety
    /// `ptr` is valid for `BYTES` bytes.
    unsafe fn store(ptr: *mut u8, value: u64);
}

macro_rules! width {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;
        impl Width for $name {
            const BITS: u32 = <$int>::BITS;
            #[inline(always)]
            unsafe fn load(ptr: *const u8) -> u64 {
                // SAFETY: the caller vouches for `ptr`; an unaligned read is allowed.
                unsafe { ptr.cast::<$int>().read_unaligned() }.into()
            }
            #[inline(always)]
            unsafe fn store(ptr: *mut u8, value: u64) {
                // SAFETY: the caller vouches for `ptr`; an unaligned write is allowed.
                unsafe { ptr.cast::<$int>().write_unaligned(value as $int) }
            }
        }
    };
}

width!(
    /// 8 bits.
    B,
    u8
);
width!(
    /// 16 bits.
    W16,
    u16
);
width!(
    /// 32 bits.
    D,
    u32
);
width!(
    /// 64 bits.
    Q,
    u64
);
