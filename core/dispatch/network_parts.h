/* What the files on integer networks share; nobody else includes this. */
#ifndef QE_DISPATCH_NETWORK_PARTS_H
#define QE_DISPATCH_NETWORK_PARTS_H

#include "core/dispatch/network.h"

/* One layer of qe_network_check, but for its own range and `narrow`; layers before have passed it. */
QE_CHECKED qe_status qe_network_check_layer(const qe_network *network, size_t at);

/* Largest magnitude of a tensor's values. */
int64_t qe_network_reach(const qe_network *network, size_t tensor);
/* Of a requantiser with the network's own multipliers and the ranges of its inputs. */
qe_sum_width qe_network_width(const qe_network *network, size_t at);

#endif
