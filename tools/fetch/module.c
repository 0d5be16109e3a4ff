/* What the module of downloads exports. */
#include "tools/fetch/module.h"

__attribute__((visibility("default")))
const qe_fetch_functions qe_fetch_module = {.version = QE_VERSION, .get = qe_get, .digest_file = qe_digest_file};
