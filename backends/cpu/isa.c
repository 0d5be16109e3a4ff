/* Which instruction set the kernels use: the best that the machine has, or what $QEVO_CPU_ISA names. */
#include "backends/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef CPU_X86
#include <cpuid.h>

static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && has_avx2();
}
#endif

static bool has_all(void) {
  return true;
}

/* Best first. `cap` is the most that oneDNN may use along with it. */
static const struct level {
  const cpu_kernels *kernels;
  bool (*present)(void);
  dnnl_cpu_isa_t cap;
} level[] = {
#ifdef CPU_X86
    {&cpu_kernels_avx512, has_avx512, dnnl_cpu_isa_all},
    {&cpu_kernels_avx2, has_avx2, dnnl_cpu_isa_avx2},
    {&cpu_kernels_portable, has_all, dnnl_cpu_isa_sse41},
#else
    {&cpu_kernels_portable, has_all, dnnl_cpu_isa_all},
#endif
};

enum { LEVELS = sizeof level / sizeof *level };

static const cpu_kernels *take(const struct level *chosen) {
  /* Heeded until oneDNN's first primitive; a process that opens devices of several levels is a test of ours. */
  if (chosen->cap != dnnl_cpu_isa_all) (void)dnnl_set_max_cpu_isa(chosen->cap);
  return chosen->kernels;
}

const cpu_kernels *cpu_choose_kernels(char *why, size_t bytes) {
  const char *wanted = getenv("QEVO_CPU_ISA");
  bool any = !wanted || !wanted[0];
  if (bytes) why[0] = 0;
  for (int i = 0; i < LEVELS; i++) {
    bool named = !any && strcmp(wanted, level[i].kernels->name) == 0;
    if ((any || named) && level[i].present()) return any ? level[i].kernels : take(&level[i]);
    if (named) {
      snprintf(why, bytes, "QEVO_CPU_ISA=%s, but this processor has no %s; unset it or name a lower one", wanted,
               wanted);
      return NULL;
    }
  }
  snprintf(why, bytes, "QEVO_CPU_ISA=%s is not one of portable, avx2, avx512", wanted);
  return NULL;
}

#ifdef CPU_X86
void cpu_model_name(char *text, size_t bytes) {
  unsigned word[12];
  char name[sizeof word + 1] = "";
  if ((unsigned)__get_cpuid_max(0x80000000u, NULL) >= 0x80000004u) {
    for (unsigned i = 0; i < 3; i++)
      __get_cpuid(0x80000002u + i, &word[4 * i], &word[4 * i + 1], &word[4 * i + 2], &word[4 * i + 3]);
    memcpy(name, word, sizeof word);
  }
  size_t start = strspn(name, " "), end = strlen(name);
  while (end > start && name[end - 1] == ' ') end--;
  snprintf(text, bytes, "%.*s", (int)(end - start), end > start ? name + start : "x86-64 processor");
}
#else
void cpu_model_name(char *text, size_t bytes) {
  snprintf(text, bytes, "processor");
}
#endif
