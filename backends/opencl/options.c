/* Build options of a device's kernels. A device's own dot product is used only after a trial: a small kernel that must
 * build and give the right sums there. */
#include "backends/opencl/opencl.h"

#include <stdio.h>
#include <string.h>

static const char trial_text[] = "__kernel void qk_trial(__global int *y, uint a, uint b) {\n"
                                 "  y[0] = qk_dot(a, b, 7);\n"
                                 "  y[1] = qk_dot_signed(a, b, -7);\n"
                                 "}\n";

static const char *const dot_macro[] = {[OPENCL_DOT_NONE] = "",
                                        [OPENCL_DOT_KHR] = "-DQK_DOT_KHR",
                                        [OPENCL_DOT_PTX] = "-DQK_DOT_PTX",
                                        [OPENCL_DOT_AMD] = "-DQK_DOT_AMD"};

static void write_options(opencl_device *device, const opencl_traits *traits, opencl_dot dot) {
  snprintf(device->options, sizeof device->options, "-cl-std=CL1.2 -DQK_GROUP=%d %s %s", device->portable.limits.group,
           traits->divide ? "-cl-fp32-correctly-rounded-divide-sqrt" : "-DQK_DIVIDE_BY_FMA", dot_macro[dot]);
}

static int32_t expected(cl_uint a, cl_uint b, int32_t sum, bool a_signed) {
  for (int i = 0; i < 32; i += 8) {
    int32_t x = a_signed ? (int8_t)(a >> i) : (uint8_t)(a >> i);
    sum += x * (int8_t)(b >> i);
  }
  return sum;
}

static bool trial_runs(opencl_device *device, cl_kernel kernel, cl_mem memory) {
  static const cl_uint value[][2] = {
      {0, 0}, {0xffffffff, 0x80808080}, {0x7f80ff01, 0x81ff7f80}, {0x12345678, 0x9abcdef0}};
  for (size_t i = 0; i < sizeof value / sizeof *value; i++) {
    cl_int sum[2] = {0};
    size_t one = 1;
    cl_int error = clSetKernelArg(kernel, 0, sizeof memory, &memory);
    if (error == CL_SUCCESS) error = clSetKernelArg(kernel, 1, sizeof(cl_uint), &value[i][0]);
    if (error == CL_SUCCESS) error = clSetKernelArg(kernel, 2, sizeof(cl_uint), &value[i][1]);
    if (error == CL_SUCCESS)
      error = clEnqueueNDRangeKernel(device->zeroing, kernel, 1, NULL, &one, &one, 0, NULL, NULL);
    if (error == CL_SUCCESS)
      error = clEnqueueReadBuffer(device->zeroing, memory, CL_TRUE, 0, sizeof sum, sum, 0, NULL, NULL);
    if (error != CL_SUCCESS || sum[0] != expected(value[i][0], value[i][1], 7, false) ||
        sum[1] != expected(value[i][0], value[i][1], -7, true))
      return false;
  }
  return true;
}

/* Whether kernels built with the device's present options compute dot products rightly. */
static bool dot_works(opencl_device *device) {
  cl_program program;
  cl_int error;
  if (opencl_build(device, "trial", trial_text, sizeof trial_text - 1, &program) != QE_OK) return false;
  cl_kernel kernel = clCreateKernel(program, "qk_trial", &error);
  cl_mem memory =
      error == CL_SUCCESS ? clCreateBuffer(device->context, CL_MEM_READ_WRITE, 2 * sizeof(cl_int), NULL, &error) : NULL;
  bool works = error == CL_SUCCESS && trial_runs(device, kernel, memory);
  if (memory) clReleaseMemObject(memory);
  if (kernel) clReleaseKernel(kernel);
  clReleaseProgram(program);
  return works;
}

void opencl_options(opencl_device *device, const opencl_traits *traits) {
  write_options(device, traits, traits->dot);
  if (traits->dot == OPENCL_DOT_NONE || dot_works(device)) return;
  device->portable.limits.dot = false;
  write_options(device, traits, OPENCL_DOT_NONE);
}
