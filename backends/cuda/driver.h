/* The CUDA driver, loaded at run time: the module loads and says why there is no device where no driver is installed.
 */
#ifndef QE_BACKENDS_CUDA_DRIVER_H
#define QE_BACKENDS_CUDA_DRIVER_H

#include "core/base/status.h"

#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct cuda_driver_table {
#define CUDA_DRIVER(symbol) __typeof__(symbol) *symbol;
#include "backends/cuda/driver.def"
#undef CUDA_DRIVER
} cuda_driver_table;

/* A function of a library and its place in a table of function pointers. */
typedef struct cuda_symbol {
  const char *name;
  size_t offset;
} cuda_symbol;

/* Fills the table; symbols end with a NULL name. NULL, or the first symbol that the library lacks. */
const char *cuda_find_symbols(void *library, const cuda_symbol *symbol, void *table);

/* Usable once cuda_driver_load has said yes. cuda.h maps plain names to the versioned ones: cuda.cuMemAlloc(...). */
extern cuda_driver_table cuda;

/* Loads and initialises the driver ($QEVO_CUDA_DRIVER names another library), the first time it is called. false: there
 * is none that can be used, and why[bytes] says why. From any thread. */
bool cuda_driver_load(char *why, size_t bytes);
/* CUDA version of the driver, as 1000 * major + 10 * minor. */
int cuda_driver_version(void);
/* Whether it is NVIDIA's own: CUDA's libraries find no other. */
bool cuda_driver_is_real(void);
/* QE_OK, or QE_NO_MEMORY or QE_DEVICE with what was tried, the error's name and what it means. */
QE_CHECKED qe_status cuda_check(CUresult error, const char *what);

#endif
