/* The file of an integer network: a safetensors file with every number that it is evaluated with, and nothing else.
 *
 * Metadata: "format" is "qevo-gpu network 1"; "layers" a JSON list, an object a layer: name, op, inputs, output,
 * attributes, grid of the weights. Tensors, with I the layer's number: I.NAME.weight u8, the codes packed at their bits
 * (core/base/pack.h); I.NAME.multiplier0, .multiplier1 s32 and I.NAME.offset s64, one a channel. */
#ifndef QE_DISPATCH_NETWORK_FILE_H
#define QE_DISPATCH_NETWORK_FILE_H

#include "core/base/safetensors.h"
#include "core/dispatch/network.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Replaces `path` atomically. The same network gives the same bytes. */
QE_CHECKED qe_status qe_network_write(const qe_network *network, const char *path);
/* What such a file holds, added to a list of tensors. */
QE_CHECKED qe_status qe_network_give(const qe_network *network, qe_tensors *tensors);
/* A network that qe_network_check passes, its ranges proven anew; QE_FORMAT with the file, the layer and the reason. */
QE_CHECKED qe_status qe_network_read(const char *path, qe_network **network);

/* Whether the tensors of a file are an integer network's, of this or a later version; the network of such tensors.
 * `file` is for messages. */
bool qe_network_is_file(const qe_tensors *tensors);
QE_CHECKED qe_status qe_network_take(const qe_tensors *tensors, const char *file, qe_network **network);

#ifdef __cplusplus
}
#endif
#endif
