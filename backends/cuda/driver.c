/* Loading the CUDA driver, and its errors as statuses. */
#include "backends/cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cuda_driver_table cuda;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char reason[256]; /* why the driver cannot be used; "": it can */
static int version;

const char *cuda_find_symbols(void *library, const cuda_symbol *symbol, void *table) {
  for (; symbol->name; symbol++) {
    void *address = dlsym(library, symbol->name);
    if (!address) return symbol->name;
    memcpy((char *)table + symbol->offset, &address, sizeof address); /* a function pointer by its bytes */
  }
  return NULL;
}

static const char *find_all(void *library) {
#define TEXT(symbol) #symbol
#define CUDA_DRIVER(symbol) {TEXT(symbol), offsetof(cuda_driver_table, symbol)},
  static const cuda_symbol symbols[] = {
#include "backends/cuda/driver.def"
      {NULL, 0}};
#undef CUDA_DRIVER
#undef TEXT
  return cuda_find_symbols(library, symbols, &cuda);
}

/* The first whose kernels take more than 4 KiB of parameters, as those of the engine `fused` do. */
enum { OLDEST_VERSION = 12010 };
_Static_assert(CUDA_VERSION >= OLDEST_VERSION, "CUDA 12.1 or newer is needed");

static void check_version(void) {
  int needed = CUDA_VERSION / 1000 * 1000;
  if (needed < OLDEST_VERSION) needed = OLDEST_VERSION;
  if (cuda.cuDriverGetVersion(&version) != CUDA_SUCCESS) version = 0;
  if (version < needed)
    snprintf(reason, sizeof reason, "the NVIDIA driver is for CUDA %d.%d; this build needs one for CUDA %d.%d or newer",
             version / 1000, version % 1000 / 10, needed / 1000, needed % 1000 / 10);
}

static void load(void) {
  const char *chosen = getenv("QEVO_CUDA_DRIVER");
  const char *path = chosen && chosen[0] ? chosen : "libcuda.so.1";
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* stays loaded: drivers cannot be unloaded */
  if (!library) {
    if (path == chosen)
      snprintf(reason, sizeof reason, "QEVO_CUDA_DRIVER cannot be loaded: %s", dlerror());
    else
      snprintf(reason, sizeof reason, "no NVIDIA driver: libcuda.so.1 is not there");
    return;
  }
  const char *missing = find_all(library);
  if (missing)
    snprintf(reason, sizeof reason, "the NVIDIA driver is too old: it has no %s; update it", missing);
  else
    check_version();
  if (reason[0]) return;
  CUresult error = cuda.cuInit(0);
  const char *name = NULL;
  if (error == CUDA_ERROR_NO_DEVICE)
    snprintf(reason, sizeof reason, "an NVIDIA driver is there but no GPU");
  else if (error != CUDA_SUCCESS)
    snprintf(reason, sizeof reason, "the NVIDIA driver does not start: %s",
             cuda.cuGetErrorName(error, &name) == CUDA_SUCCESS && name ? name : "unknown error");
}

bool cuda_driver_load(char *why, size_t bytes) {
  (void)pthread_once(&once, load);
  if (reason[0]) snprintf(why, bytes, "%s", reason);
  return !reason[0];
}

int cuda_driver_version(void) {
  return version;
}

bool cuda_driver_is_real(void) {
  const char *chosen = getenv("QEVO_CUDA_DRIVER");
  return !chosen || !chosen[0];
}

/* Errors after which the context, and so this process's use of the device, is lost. */
static bool is_sticky(CUresult error) {
  static const CUresult sticky[] = {
      CUDA_ERROR_ILLEGAL_ADDRESS,       CUDA_ERROR_LAUNCH_TIMEOUT,      CUDA_ERROR_LAUNCH_FAILED,
      CUDA_ERROR_HARDWARE_STACK_ERROR,  CUDA_ERROR_ILLEGAL_INSTRUCTION, CUDA_ERROR_MISALIGNED_ADDRESS,
      CUDA_ERROR_INVALID_ADDRESS_SPACE, CUDA_ERROR_INVALID_PC,          CUDA_ERROR_ASSERT,
      CUDA_ERROR_ECC_UNCORRECTABLE};
  for (size_t i = 0; i < sizeof sticky / sizeof *sticky; i++)
    if (error == sticky[i]) return true;
  return false;
}

qe_status cuda_check(CUresult error, const char *what) {
  if (error == CUDA_SUCCESS) return QE_OK;
  const char *name = NULL, *text = NULL;
  if (cuda.cuGetErrorName(error, &name) != CUDA_SUCCESS || !name) name = "an unknown error";
  if (cuda.cuGetErrorString(error, &text) != CUDA_SUCCESS || !text) text = "no text";
  return qe_fail(error == CUDA_ERROR_OUT_OF_MEMORY ? QE_NO_MEMORY : QE_DEVICE, "%s (%s) from %s%s", name, text, what,
                 is_sticky(error) ? "; the device is lost to this process, which must be started again" : "");
}
