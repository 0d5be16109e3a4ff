/* Forms of a kernel by how it multiplies. Its file defines FORMS, a header that this one includes once a form with
 * TARGET the function's attribute, FORM the name and MADD(sum, a, b): the products of two vectors of words added up. */
#define TARGET
#define FORM pairs
#define MADD(sum, a, b) vec_add32(sum, vec_madd16(a, b))
#include FORMS

#if defined(__AVX512BW__)
#define TARGET __attribute__((target("avx512vnni")))
#define FORM pairs_vnni
#define MADD(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)
#include FORMS

#define TARGET __attribute__((target("avx512vnni")))
#define FORM bytes
#define MADD(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#include FORMS

/* Whether words may be four bytes (the form `bytes`), and pairs take one instruction. */
static bool has_bytes(void) {
  return __builtin_cpu_supports("avx512vnni");
}
#else
static bool has_bytes(void) {
  return false;
}
#endif

#undef FORMS
