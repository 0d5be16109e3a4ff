/* CRC-32C (Castagnoli), as in RFC 3720, appendix B.4: polynomial 0x1EDC6F41, reflected, inverted before and after. */
#ifndef QE_BASE_CRC32C_H
#define QE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of the bytes; `before`: of the bytes before them, 0 at first. */
uint32_t qe_crc32c(uint32_t before, const void *data, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
