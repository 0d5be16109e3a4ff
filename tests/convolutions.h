/* A convolution and its gradients on two devices: how near the results are. */
#ifndef QE_TESTS_CONVOLUTIONS_H
#define QE_TESTS_CONVOLUTIONS_H

#include "core/dispatch/program.h"
#include "tests/fixture.h"

enum { CONV_N = 3, CONV_SIZE = 6, CONV_IN = 16, CONV_OUT = 8, CONV_RUNS = 3 };
enum { CONV_X = CONV_N * CONV_SIZE * CONV_SIZE * CONV_IN, CONV_W = CONV_OUT * 9 * CONV_IN };
enum { CONV_Y = CONV_N * CONV_SIZE * CONV_SIZE * CONV_OUT, CONV_ALL = CONV_X + CONV_W + CONV_Y };

/* y = conv(x, w), then x and w become their gradients for dy = y. `all`: x, w and y, one after the other. */
static inline void convolve(qe_device *device, float *all) {
  qe_attrs attrs = {.window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, CONV_OUT}};
  qe_desc map = qe_map(QE_F32, CONV_N, CONV_SIZE, CONV_SIZE, CONV_IN), filter = qe_map(QE_F32, CONV_OUT, 3, 3, CONV_IN);
  qe_queue *queue = NULL;
  qe_buffer *buffer = NULL;
  qe_program *program = NULL;
  qe_value x, w, y, dw;
  OK(qe_queue_new(device, &queue));
  OK(qe_buffer_new(device, CONV_ALL * sizeof(float), &buffer));
  OK(qe_program_new(device, "convolutions", &program));
  OK(qe_program_bind(program, "x", map, buffer, 0, &x));
  OK(qe_program_bind(program, "w", filter, buffer, CONV_X * sizeof(float), &w));
  OK(qe_program_bind(program, "y", qe_map(QE_F32, CONV_N, CONV_SIZE, CONV_SIZE, CONV_OUT), buffer,
                     (CONV_X + CONV_W) * sizeof(float), &y));
  OK(qe_program_temp(program, "dw", filter, &dw));
  OK(qe_program_call(program, QE_OP_conv2d, &attrs, (qe_value[]){x, w, y}));
  OK(qe_program_call(program, QE_OP_conv2d_grad_w, &attrs, (qe_value[]){y, x, dw}));
  OK(qe_program_call(program, QE_OP_conv2d_grad_x, &attrs, (qe_value[]){y, w, x}));
  OK(qe_program_call(program, QE_OP_add, NULL, (qe_value[]){dw, dw, w}));
  OK(qe_program_plan(program, NULL));
  float *initial = qe_alloc(CONV_ALL * sizeof(float));
  memcpy(initial, all, CONV_ALL * sizeof(float));
  for (int run = 0; run < CONV_RUNS; run++) { /* what cannot be captured must not matter */
    OK(qe_queue_write(queue, buffer, 0, initial, CONV_ALL * sizeof(float)));
    OK(qe_program_run(program, queue));
    OK(qe_queue_read(queue, buffer, 0, all, CONV_ALL * sizeof(float)));
    OK(qe_queue_wait(queue));
  }
  qe_free(initial);
  qe_program_free(program);
  qe_queue_free(queue);
  qe_buffer_free(buffer);
}

/* Normalised squared errors of y, dx and dw on `device` against `exact` lie from `least` to `most`. */
static inline void check_convolutions(qe_device *exact, qe_device *device, double least, double most) {
  float wanted[CONV_ALL], got[CONV_ALL];
  draws from = {.seed = 9};
  draw_reals(&from, wanted, CONV_ALL, -1, 1);
  memcpy(got, wanted, sizeof got);
  convolve(exact, wanted);
  convolve(device, got);
  for (int part = 0; part < 3; part++) {
    const int first[] = {0, CONV_X, CONV_X + CONV_W}, count[] = {CONV_X, CONV_W, CONV_Y};
    double error = normalised_error(got + first[part], wanted + first[part], count[part]);
    assert_true(error >= least && error < most);
  }
}

#endif
