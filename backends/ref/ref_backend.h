/* The backend `ref`: cpu_ref behind the interface, the oracle of every other backend. Built in. */
#ifndef QE_BACKENDS_REF_H
#define QE_BACKENDS_REF_H

#include "core/dispatch/backend.h"

const qe_backend *qe_ref_backend(void);

#endif
