/* Sizes of the tiles of network_tensor.cu, for kernels and their host. */
#ifndef QK_NETWORK_TENSOR_H
#define QK_NETWORK_TENSOR_H

enum {
  QK_TENSOR_PIXELS = 128,
  QK_TENSOR_ITEMS = 128, /* of a work-group: as many as pixels, each unpacks the codes of one */
  QK_TENSOR_PIECE = 16,  /* bytes of a row that are unpacked at a time */
  QK_TENSOR_PIECES = 4   /* of a row that lie in shared memory at a time */
};

/* Bytes of shared memory of a tile of so many channels: two halves of codes and weights, the ones of each pixel. */
#define QK_TENSOR_BYTES(channels)                                                                                      \
  (2 * QK_TENSOR_PIECES * QK_TENSOR_PIECE * (QK_TENSOR_PIXELS + (channels)) + 4 * QK_TENSOR_PIXELS)

#endif
