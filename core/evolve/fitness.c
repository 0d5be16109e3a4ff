/* Fitness: what it is made of, and one call. Batches are in fitness_batch.c, losses in fitness_loss.c, the work of
 * several devices in fitness_share.c. */
#include "core/evolve/fitness.h"

#include "core/base/alloc.h"
#include "core/data/split.h"
#include "core/evolve/fitness_parts.h"

/* ---- making ---- */

static size_t image_bytes(const qe_dataset *data) {
  return (size_t)data->height * (size_t)data->width * (size_t)data->channels;
}

static qe_status check_network(const char *what, const qe_network *network, const qe_dataset *data) {
  QE_TRY(qe_network_check(network));
  return qe_network_takes(network, what, data->height, data->width, data->channels, data->classes);
}

static qe_status check_options(const qe_fitness_options *options, const qe_dataset *data) {
  if (options->pad < 0 || options->pad >= data->height || options->pad >= data->width)
    return qe_fail(QE_USAGE, "fitness: %d pixels of padding; give 0 to %d", options->pad,
                   (data->height < data->width ? data->height : data->width) - 1);
  if (options->held_out < 0 || options->held_out >= data->train_images)
    return qe_fail(QE_USAGE, "fitness: %d of %d training images cannot be held out; give 0 to %d", options->held_out,
                   data->train_images, data->train_images - 1);
  if (options->temperature < 0 || options->temperature > QE_MOST_TEMPERATURE)
    return qe_fail(QE_USAGE, "fitness: a temperature of %d; give 1 to %d", options->temperature, QE_MOST_TEMPERATURE);
  if (options->mixup && options->loss != QE_FITNESS_TEACHER)
    return qe_fail(QE_USAGE, "fitness: mixed images have no label; only a teacher's answers can be the loss");
  if (options->loss != QE_FITNESS_LABELS && !options->teacher)
    return qe_fail(QE_USAGE, "fitness: a loss with a teacher, but there is no teacher");
  return options->teacher ? check_network("fitness: the teacher", options->teacher, data) : QE_OK;
}

static qe_status split(qe_fitness *f) {
  int32_t all = f->data->train_images, held = f->options.held_out;
  f->pool = QE_NEW_ARRAY(int32_t, all);
  f->part[QE_FITNESS_TRAIN] = QE_NEW_ARRAY(int32_t, all);
  f->part[QE_FITNESS_HELD_OUT] = QE_NEW_ARRAY(int32_t, held > 0 ? held : 1);
  if (!f->pool || !f->part[QE_FITNESS_TRAIN] || !f->part[QE_FITNESS_HELD_OUT]) return QE_NO_MEMORY;
  f->images[QE_FITNESS_TRAIN] = all - held;
  f->images[QE_FITNESS_HELD_OUT] = held;
  return qe_split(f->options.seed, f->data->train_labels, all, f->data->classes, held, f->part[QE_FITNESS_TRAIN],
                  f->part[QE_FITNESS_HELD_OUT]);
}

static qe_status open_worker(qe_fitness_worker *worker, qe_device *device, const qe_dataset *data) {
  size_t bytes = (size_t)data->train_images * image_bytes(data);
  worker->device = device;
  worker->rate = 1;
  QE_TRY(qe_queue_new(device, &worker->queue));
  QE_TRY(qe_buffer_new(device, bytes, &worker->images));
  QE_TRY(qe_queue_write(worker->queue, worker->images, 0, data->train_pixels, bytes));
  return qe_queue_wait(worker->queue);
}

static qe_status fill(qe_fitness *f, qe_device *const *device, int devices, const qe_network *network,
                      const qe_genome_layout *layout) {
  QE_TRY(split(f));
  if (f->options.mixup) QE_TRY(qe_mixup_init(&f->mixup, f->options.mixup));
  f->worker = QE_NEW_ARRAY(qe_fitness_worker, devices);
  if (!f->worker) return QE_NO_MEMORY;
  f->workers = devices;
  for (int i = 0; i < devices; i++) QE_TRY(open_worker(&f->worker[i], device[i], f->data));
  if (network) QE_TRY(qe_fitness_use(f, network, layout));
  return f->options.loss == QE_FITNESS_LABELS ? QE_OK : qe_fitness_teacher_new(f);
}

qe_status qe_fitness_new(qe_device *const *device, int devices, const qe_network *network,
                         const qe_genome_layout *layout, const qe_dataset *data, const qe_fitness_options *options,
                         qe_fitness **fitness) {
  if (devices < 1) return qe_fail(QE_USAGE, "fitness: %d devices; at least one is needed", devices);
  QE_TRY(check_options(options, data));
  qe_fitness *f = QE_NEW(qe_fitness);
  if (!f) return QE_NO_MEMORY;
  f->options = *options;
  if (f->options.temperature == 0) f->options.temperature = 1;
  f->data = data;
  qe_status status = fill(f, device, devices, network, layout);
  if (status == QE_OK)
    *fitness = f;
  else
    qe_fitness_free(f);
  return status;
}

static void close_worker(qe_fitness_worker *worker) {
  qe_population_free(worker->population);
  qe_buffer_free(worker->augmented);
  qe_buffer_free(worker->unmixed);
  qe_buffer_free(worker->draws);
  qe_buffer_free(worker->images);
  qe_queue_free(worker->queue);
  qe_free(worker->logits);
}

void qe_fitness_free(qe_fitness *f) {
  if (!f) return;
  qe_fitness_teacher_free(&f->teacher);
  for (int i = 0; i < f->workers; i++) close_worker(&f->worker[i]);
  qe_free(f->worker);
  qe_fitness_drawn_free(&f->drawn);
  qe_free(f->part[QE_FITNESS_TRAIN]);
  qe_free(f->part[QE_FITNESS_HELD_OUT]);
  qe_free(f->pool);
  qe_free(f);
}

qe_status qe_fitness_use(qe_fitness *f, const qe_network *network, const qe_genome_layout *layout) {
  qe_population_options options = {.memory = f->options.memory};
  QE_TRY(check_network("fitness: the network", network, f->data));
  for (int i = 0; i < f->workers; i++) {
    qe_fitness_worker *worker = &f->worker[i];
    qe_population_free(worker->population);
    worker->population = NULL;
    QE_TRY(qe_population_new(worker->queue, network, layout, &options, &worker->population));
  }
  f->genome_bytes = layout ? layout->bytes : 0;
  return QE_OK;
}

/* ---- a call ---- */

int32_t qe_fitness_images(const qe_fitness *f, qe_fitness_part part) {
  return f->images[part] > 0 ? f->images[part] : f->images[QE_FITNESS_TRAIN];
}

/* Parts of the drawn batch one after the other; the job's losses go on from each to the next. */
static qe_status run_parts(qe_fitness *f, const qe_fitness_batch *batch, int32_t parts, qe_fitness_job job) {
  if (!f->worker[0].population) return qe_fail(QE_USAGE, "fitness: it has no network");
  if (job.candidates < 1) return qe_fail(QE_SHAPE, "fitness: %d candidates", job.candidates);
  if (parts < 1 || parts > batch->count)
    return qe_fail(QE_SHAPE, "fitness: %d parts of a batch of %d images", parts, batch->count);
  int64_t *own_hits = job.hits ? NULL : QE_NEW_ARRAY(int64_t, job.candidates);
  if (!job.hits && !own_hits) return QE_NO_MEMORY;
  if (own_hits) job.hits = own_hits;
  qe_status status = qe_fitness_draw(f, batch);
  for (int32_t part = 0; part < parts && status == QE_OK; part++) {
    job.count = batch->count / parts + (part < batch->count % parts);
    status = qe_fitness_share(f, &job);
    job.first += job.count;
    job.loss += job.candidates;
  }
  if (status == QE_OK) f->spent += (int64_t)job.candidates * batch->count;
  qe_free(own_hits);
  return status;
}

qe_status qe_fitness_run(qe_fitness *f, const qe_fitness_batch *batch, const void *genomes, int32_t candidates,
                         const void *parent, int64_t bound, int64_t *loss, int64_t *hits) {
  qe_fitness_job job = {.fitness = f,
                        .worker = f->worker,
                        .genomes = genomes,
                        .parent = parent,
                        .candidates = candidates,
                        .bound = bound,
                        .loss = loss,
                        .hits = hits};
  return run_parts(f, batch, 1, job);
}

qe_status qe_fitness_run_parts(qe_fitness *f, const qe_fitness_batch *batch, int32_t parts, const void *genomes,
                               int32_t candidates, const void *parent, int64_t *loss) {
  qe_fitness_job job = {.fitness = f,
                        .worker = f->worker,
                        .genomes = genomes,
                        .parent = parent,
                        .candidates = candidates,
                        .bound = INT64_MAX,
                        .loss = loss};
  return run_parts(f, batch, parts, job);
}

int64_t qe_fitness_spent(const qe_fitness *f) {
  return f->spent;
}

void qe_fitness_set_spent(qe_fitness *f, int64_t spent) {
  f->spent = spent;
}
