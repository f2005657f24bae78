//! A hint to the processor.

/// Asks memory for what will be read soon.
#[inline(always)]
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(unsafe_code, reason = "an unknown word costs one wait for memory in place of several")]
        // SAFETY: a prefetch reads nothing that the program sees, and the address is that of a reference.
        unsafe {
            _mm_prefetch(std::ptr::from_ref(value).cast(), _MM_HINT_T0);
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _no_hint = value;
}
