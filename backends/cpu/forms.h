/* The ways to convolve, one constant an instruction set: cpu_form_NAME_ISA, or CPU_NAME(form_NAME) in the
 * sources that are compiled once an instruction set. */
#ifndef QE_BACKENDS_CPU_FORMS_H
#define QE_BACKENDS_CPU_FORMS_H

#include "backends/cpu/lanes.h"

/*   winograd  3x3, stride 1, dilation 1, one group, even output: exact F(2x2, 3x3) in 16 bits, of few-bit codes
 *   direct    any window; one group, or channels per group even or 1: 16-bit sums of few-bit codes
 *   lookup2, lookup1  one group, zero 0, codes of 2 or 1 bits in packings of their own
 *   vnni      as direct, s32 sums of any codes; only in avx512, and only where cpu_has_vnni_avx512() says so
 *   wide      as vnni, everywhere
 *   plain     everything: groups of 3, 5, 7... channels */
#define CPU_DECLARE_FORMS(isa)                                                                                         \
  extern const cpu_form cpu_form_winograd_##isa;                                                                       \
  extern const cpu_form cpu_form_direct_##isa;                                                                         \
  extern const cpu_form cpu_form_lookup2_##isa;                                                                        \
  extern const cpu_form cpu_form_lookup1_##isa;                                                                        \
  extern const cpu_form cpu_form_wide_##isa;                                                                           \
  extern const cpu_form cpu_form_plain_##isa;                                                                          \
  bool cpu_has_vnni_##isa(void);

CPU_DECLARE_FORMS(portable)
CPU_DECLARE_FORMS(avx2)
CPU_DECLARE_FORMS(avx512)
extern const cpu_form cpu_form_vnni_avx512;

#endif
