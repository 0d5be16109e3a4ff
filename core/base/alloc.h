/* Allocation of the whole library, in one place so that tests can fail any of them. */
#ifndef QE_BASE_ALLOC_H
#define QE_BASE_ALLOC_H

#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_ALIGNMENT = 64 }; /* bytes: a cache line and the widest vector */

/* Zeroed memory aligned to QE_ALIGNMENT for count objects of size bytes; NULL with a message when there is none. */
void *qe_calloc(size_t count, size_t size);
/* Uninitialised memory aligned to QE_ALIGNMENT; NULL with a message when there is none. */
void *qe_alloc(size_t bytes);
/* Grow or shrink what qe_realloc gave (or NULL); plain alignment; free with qe_free. NULL with a message on failure. */
void *qe_realloc(void *memory, size_t count, size_t size);
void qe_free(void *memory);
/* Copies of text; NULL with a message when there is no memory. */
char *qe_strdup(const char *text);
char *qe_format(const char *format, ...) QE_PRINTF(1, 2);

/* Make `*array` (element size `size`) hold at least `needed` elements, growing by doubling. */
QE_CHECKED qe_status qe_reserve(void *array_pointer, size_t *capacity, size_t needed, size_t size);

#define QE_NEW(type) ((type *)qe_calloc(1, sizeof(type)))
#define QE_NEW_ARRAY(type, count) ((type *)qe_calloc((size_t)(count), sizeof(type)))

/* Tests: fail the nth allocation from now (1 = the next one); 0 switches it off. Counts over all threads. */
void qe_alloc_fail_nth(int64_t nth);
/* Allocations asked for since the start of the process. */
int64_t qe_alloc_count(void);

#ifdef __cplusplus
}
#endif
#endif
