/* OpenCL programs: one a file of kernels_cl, built at first use. */
#include "backends/opencl/opencl.h"

#include "core/base/alloc.h"

#include <string.h>

static const opencl_source *find_source(const char *name) {
  const opencl_source *source = opencl_sources;
  while (strcmp(source->name, name) != 0) source++;
  return source;
}

static qe_status build_failed(const opencl_device *device, cl_program program, const char *file, cl_int error) {
  char log[2048] = "";
  (void)clGetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL);
  return qe_fail(QE_DEVICE, "OpenCL error %d while kernels_cl/%s.cl is built for %s: %s", error, file,
                 device->portable.base.name, log);
}

static qe_status build(opencl_device *device, const char *file, cl_program *program) {
  const opencl_source *part[] = {find_source("platform.h"), find_source("params.h"), find_source("common.h"),
                                 find_source(file)};
  enum { PARTS = sizeof part / sizeof *part };
  const char *text[PARTS];
  size_t length[PARTS];
  char options[256];
  cl_int error;
  for (int i = 0; i < PARTS; i++) {
    text[i] = part[i]->begin;
    length[i] = (size_t)(part[i]->end - part[i]->begin);
  }
  *program = clCreateProgramWithSource(device->context, PARTS, text, length, &error);
  QE_TRY(opencl_check(error, "clCreateProgramWithSource"));
  snprintf(options, sizeof options, "-cl-std=CL1.2 -DQK_GROUP=%d %s", device->portable.limits.group,
           device->build_options);
  error = clBuildProgram(*program, 1, &device->id, options, NULL, NULL);
  qe_status status = error == CL_SUCCESS ? QE_OK : build_failed(device, *program, file, error);
  if (status != QE_OK) clReleaseProgram(*program);
  return status;
}

static qe_status get_program(opencl_device *device, qk_kernel which, cl_program *program) {
  for (int k = 0; k < QK_KERNELS; k++)
    if (device->program[k] && strcmp(portable_kernel[k].file, portable_kernel[which].file) == 0) {
      *program = device->program[k];
      return QE_OK;
    }
  QE_TRY(build(device, portable_kernel[which].file, program));
  device->program[which] = *program;
  return QE_OK;
}

qe_status opencl_kernel(opencl_queue *queue, qk_kernel which, cl_kernel *kernel) {
  if (!queue->kernel[which]) {
    cl_program program;
    cl_int error;
    QE_TRY(get_program((opencl_device *)queue->portable.base.device, which, &program));
    queue->kernel[which] = clCreateKernel(program, portable_kernel[which].name, &error);
    QE_TRY(opencl_check(error, portable_kernel[which].name));
  }
  *kernel = queue->kernel[which];
  return QE_OK;
}

void opencl_programs_free(opencl_device *device) {
  for (int k = 0; k < QK_KERNELS; k++)
    if (device->program[k]) clReleaseProgram(device->program[k]);
}
