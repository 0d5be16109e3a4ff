/* What fuzz targets share. A target is one file with one function, called by libFuzzer or, on a corpus, by replay.c. */
#ifndef QE_TESTS_FUZZ_H
#define QE_TESTS_FUZZ_H

#include "core/base/safetensors.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold whatever the input is: the process ends where it does not, which is a finding. */
#define FUZZ_REQUIRE(condition)                                                                                        \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, qe_message());                       \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* A folder of this process, in memory where that can be had; removed with what is in it when the process ends well. */
const char *fuzz_folder(void);
/* "FOLDER/name" in static memory, one of four in turn. */
const char *fuzz_path(const char *name);
/* Replace the file. Not durable, unlike qe_file_write, and so faster. */
void fuzz_write(const char *path, const void *bytes, size_t count);

/* Tensors from lines of text, so that changes to a case are changes to what the reader sees, not to offsets:
 *   meta KEY VALUE              \n in the value is a line break
 *   tensor NAME TYPE AxB N...   the numbers, repeated up to the tensor's size; none: ones
 * NULL when a line is neither, or all tensors take more than 1 MiB. */
qe_tensors *fuzz_tensors(const uint8_t *data, size_t size);

#endif
