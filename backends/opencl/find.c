/* Which OpenCL devices are installed and usable, best first. */
#include "backends/opencl/opencl.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PLATFORMS = 16, MAX_DEVICES = 64, WHY = 400 };

static opencl_found found[MAX_DEVICES];
static int found_count;
static char found_why[WHY];

char *opencl_device_text(cl_device_id id, cl_device_info what, char *text, size_t bytes) {
  text[0] = 0;
  if (clGetDeviceInfo(id, what, bytes, text, NULL) != CL_SUCCESS) text[0] = 0;
  text[bytes - 1] = 0;
  return text;
}

char *opencl_platform_text(cl_platform_id platform, cl_platform_info what, char *text, size_t bytes) {
  text[0] = 0;
  if (clGetPlatformInfo(platform, what, bytes, text, NULL) != CL_SUCCESS) text[0] = 0;
  text[bytes - 1] = 0;
  return text;
}

bool opencl_has_extension(cl_device_id id, const char *name) {
  static const char blank = ' ';
  char list[8192];
  size_t length = strlen(name);
  opencl_device_text(id, CL_DEVICE_EXTENSIONS, list, sizeof list);
  for (const char *at = list; (at = strstr(at, name)); at += length)
    if ((at == list || at[-1] == blank) && (at[length] == 0 || at[length] == blank)) return true;
  return false;
}

/* Whether a yes-or-no property of the device holds; `otherwise` where the driver does not say. */
static bool property(cl_device_id id, cl_device_info what, bool otherwise) {
  cl_bool value = otherwise;
  (void)clGetDeviceInfo(id, what, sizeof value, &value, NULL);
  return value != CL_FALSE;
}

/* What the embedded profile does without and kernels_cl needs. */
static const char *lacks_of_full(cl_device_id id) {
  char profile[64];
  size_t arguments = OPENCL_ARGUMENTS;
  cl_device_fp_config single = CL_FP_ROUND_TO_NEAREST;
  opencl_device_text(id, CL_DEVICE_PROFILE, profile, sizeof profile);
  if (strcmp(profile, "EMBEDDED_PROFILE") == 0 && !opencl_has_extension(id, "cles_khr_int64"))
    return "has no integers of 64 bits";
  (void)clGetDeviceInfo(id, CL_DEVICE_SINGLE_FP_CONFIG, sizeof single, &single, NULL);
  if (!(single & CL_FP_ROUND_TO_NEAREST)) return "does not round to nearest";
  (void)clGetDeviceInfo(id, CL_DEVICE_MAX_PARAMETER_SIZE, sizeof arguments, &arguments, NULL);
  return arguments < OPENCL_ARGUMENTS ? "takes too few bytes of arguments" : NULL;
}

/* What a device lacks that kernels_cl needs; NULL: nothing. */
static const char *lacks(cl_device_id id) {
  char version[128];
  int major = 0, minor = 0;
  opencl_device_text(id, CL_DEVICE_VERSION, version, sizeof version);
  if (sscanf(version, "OpenCL %d.%d", &major, &minor) != 2 || major * 10 + minor < 12)
    return "is older than OpenCL 1.2";
  if (!property(id, CL_DEVICE_AVAILABLE, true)) return "is not available";
  if (!property(id, CL_DEVICE_COMPILER_AVAILABLE, true)) return "has no compiler";
  if (!property(id, CL_DEVICE_ENDIAN_LITTLE, true)) return "is not little-endian";
  return lacks_of_full(id);
}

static int rank_of(cl_device_id id, cl_device_type type) {
  if (type & CL_DEVICE_TYPE_GPU) return property(id, CL_DEVICE_HOST_UNIFIED_MEMORY, false) ? 1 : 0;
  return type & CL_DEVICE_TYPE_ACCELERATOR ? 2 : 3;
}

static void pass_over(cl_device_id id, const char *reason) {
  char name[96];
  size_t used = strlen(found_why);
  opencl_device_text(id, CL_DEVICE_NAME, name, sizeof name);
  snprintf(found_why + used, sizeof found_why - used, "%s%s %s", used ? "; " : "", name, reason);
}

/* Keeps the list sorted by rank; equal ranks stay in the drivers' order. */
static void insert(opencl_found item) {
  int at = found_count++;
  for (; at > 0 && found[at - 1].rank > item.rank; at--) found[at] = found[at - 1];
  found[at] = item;
}

static void find_in(cl_platform_id platform) {
  cl_device_id id[MAX_DEVICES];
  cl_uint ids = 0;
  if (clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, MAX_DEVICES, id, &ids) != CL_SUCCESS) return;
  for (cl_uint d = 0; d < ids && d < MAX_DEVICES && found_count < MAX_DEVICES; d++) {
    cl_device_type type = 0;
    const char *reason = lacks(id[d]);
    (void)clGetDeviceInfo(id[d], CL_DEVICE_TYPE, sizeof type, &type, NULL);
    if (reason)
      pass_over(id[d], reason);
    else
      insert((opencl_found){platform, id[d], type, rank_of(id[d], type)});
  }
}

static void find(void) {
  cl_platform_id platform[MAX_PLATFORMS];
  cl_uint platforms = 0;
  if (clGetPlatformIDs(MAX_PLATFORMS, platform, &platforms) != CL_SUCCESS || platforms == 0) {
    snprintf(found_why, sizeof found_why, "no OpenCL driver is installed (Debian: pocl-opencl-icd for the processor)");
    return;
  }
  for (cl_uint p = 0; p < platforms && p < MAX_PLATFORMS; p++) find_in(platform[p]);
  if (!found_count && !found_why[0])
    snprintf(found_why, sizeof found_why, "OpenCL drivers are installed but have no device");
}

int opencl_devices(const opencl_found **list, const char **why) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, find);
  *list = found;
  *why = found_why;
  return found_count;
}
