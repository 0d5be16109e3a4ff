/* The allocator behind everything, with fault injection for tests. */
#include "core/base/alloc.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int64_t asked;
static _Atomic int64_t countdown; /* 0: no fault to inject */

static bool must_fail(void) {
  atomic_fetch_add(&asked, 1);
  if (atomic_load(&countdown) == 0) return false;
  return atomic_fetch_sub(&countdown, 1) == 1;
}

static void say_no_memory(size_t bytes) {
  (void)qe_fail(QE_NO_MEMORY, "out of memory: %zu bytes asked for", bytes);
}

void *qe_alloc(size_t bytes) {
  size_t rounded = (bytes + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
  void *memory = NULL;
  if (!must_fail() && rounded >= bytes) memory = aligned_alloc(QE_ALIGNMENT, rounded ? rounded : QE_ALIGNMENT);
  if (!memory) say_no_memory(bytes);
  return memory;
}

void *qe_calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    say_no_memory(SIZE_MAX);
    return NULL;
  }
  void *memory = qe_alloc(bytes);
  if (memory) memset(memory, 0, bytes);
  return memory;
}

void *qe_realloc(void *memory, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) bytes = SIZE_MAX;
  void *grown = bytes == SIZE_MAX || must_fail() ? NULL : realloc(memory, bytes ? bytes : 1);
  if (!grown) say_no_memory(bytes);
  return grown;
}

void qe_free(void *memory) {
  free(memory);
}

char *qe_strdup(const char *text) {
  size_t bytes = strlen(text) + 1;
  char *copy = qe_realloc(NULL, bytes, 1);
  if (copy) memcpy(copy, text, bytes);
  return copy;
}

char *qe_format(const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int length = vsnprintf(NULL, 0, format, args);
  va_end(args);
  char *text = length < 0 ? NULL : qe_realloc(NULL, (size_t)length + 1, 1);
  if (text) vsnprintf(text, (size_t)length + 1, format, again);
  va_end(again);
  return text;
}

qe_status qe_reserve(void *array_pointer, size_t *capacity, size_t needed, size_t size) {
  if (needed <= *capacity) return QE_OK;
  size_t wanted = *capacity ? *capacity : 8;
  while (wanted < needed) wanted *= 2;
  void *array;
  memcpy(&array, array_pointer, sizeof array);
  void *grown = qe_realloc(array, wanted, size);
  if (!grown) return QE_NO_MEMORY;
  memcpy(array_pointer, &grown, sizeof grown);
  *capacity = wanted;
  return QE_OK;
}

void qe_alloc_fail_nth(int64_t nth) {
  atomic_store(&countdown, nth);
}

int64_t qe_alloc_count(void) {
  return atomic_load(&asked);
}
