/* What the processor can do at most, measured: the limits that `qevo-gpu bench` compares with. */
#ifndef QE_TOOLS_PEAK_H
#define QE_TOOLS_PEAK_H

#include "core/base/status.h"

/* Processors that this process may run on. */
int qe_peak_threads(void);
/* The widest instruction set that qe_peak_macs uses here: "avx512", "avx2" or "portable". */
const char *qe_peak_isa(void);
/* fp32 multiply-adds a second from registers, summed over `threads` threads. Takes about 0.1 s. */
QE_CHECKED qe_status qe_peak_macs(int threads, double *macs);
/* Multiply-adds u8 times s8 a second from registers, likewise, by the fastest instructions of the set that
 * $QEVO_CPU_ISA names (any that is present when unset); *instructions says which. Takes about 0.2 s. */
QE_CHECKED qe_status qe_peak_code_macs(int threads, double *macs, const char **instructions);
/* Bytes a second, read and written, of copies too large for the caches. Takes about 0.3 s. */
QE_CHECKED qe_status qe_peak_bytes(int threads, double *bytes);

#endif
