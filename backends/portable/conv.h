/* What the float and the integer convolution share: their parameters and the tiles of their matrix products. */
#ifndef QE_BACKENDS_PORTABLE_CONV_H
#define QE_BACKENDS_PORTABLE_CONV_H

#include "backends/portable/portable.h"

/* A tile of the kernels: so many rows times 16, 32 or 64 columns, by 4 work-items a column. */
enum { PORTABLE_TILE_ROWS = 64, PORTABLE_TILES = 3 };

/* Parameters of a convolution, a fully connected layer or one of their gradients: extents and window. `pixels` are y's;
 * depth and slices are left at 0. */
qk_params_conv portable_conv_params(const qe_call *call);

/* Sizes of a launch of tile kernels for a product of `rows` by `columns` in each of `groups`; the index of the tile's
 * width among 16, 32, 64 is returned. */
int portable_tile_launch(const qe_device *device, int64_t rows, int32_t columns, int32_t groups,
                         portable_launch *launch);

/* `refuse` of the tile kernels: NULL, or what the plain kernels are for. */
const char *portable_tile_refuse(const qe_device *device, const qe_call *call);
const char *portable_int_conv_refuse(const qe_device *device, const qe_call *call);

#endif
