/* train --dry-run: the plan of a run. */
#ifndef QE_TOOLS_DRY_RUN_H
#define QE_TOOLS_DRY_RUN_H

#include "tools/training.h"

/* Prints the resolved config and, as comments below it, so that the whole is a config file, what the run will take;
 * with --json one object. */
QE_CHECKED qe_status qe_dry_run(const qe_training *training, const char *config);

/* The plan of a step of a pipeline: as comments below the title, or, `json` not NULL, as an object called so in an
 * array there. *seconds grows by its estimate; NaN where there is none. */
QE_CHECKED qe_status qe_dry_run_step(const qe_training *training, const char *title, qe_json *json, double *seconds);
#define QE_NOTHING_TRAINED "# nothing was trained (--dry-run)"
/* How long that is, as the plan says it: "41 s", "12 min", "5.2 h". */
const char *qe_dry_run_time(double seconds, char text[32]);

#endif
