/* The portable kernels for CUDA: compiled once for each file of kernels_cl, with QK_SOURCE naming it. */
#include "kernels_cl/platform.h"

#include "kernels_cl/params.h"

#include QK_SOURCE
