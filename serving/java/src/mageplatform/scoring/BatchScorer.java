package mageplatform.scoring;

import hex.genmodel.GenModel;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;

/**
 * Scores rows that lie in memory shared with Python: one call for a whole batch, nothing copied on the way.
 *
 * <p>Rows are float64 in the model's own column order (levels of a category as their index, missing as NaN).
 * Each prediction is the index of the predicted class, then the probability of every class. An instance is bound
 * to its two buffers and may be used by one thread at a time; instances of the same model are independent.
 */
public final class BatchScorer {
  private final GenModel model;
  private final DoubleBuffer rows;
  private final DoubleBuffer predictions;
  private final double[] row;
  private final double[] prediction;

  public BatchScorer(GenModel model, ByteBuffer rows, ByteBuffer predictions) {
    this.model = model;
    this.rows = rows.order(ByteOrder.nativeOrder()).asDoubleBuffer();
    this.predictions = predictions.order(ByteOrder.nativeOrder()).asDoubleBuffer();
    this.row = new double[model.nfeatures()];
    this.prediction = new double[model.getPredsSize()];
  }

  /**
   * Scores the first {@code count} rows of the buffer.
   *
   * @return how long that took, in nanoseconds; measured here because a Python thread also waits for the interpreter
   */
  public long score(int count) {
    long started = System.nanoTime();
    rows.rewind();
    predictions.rewind();
    for (int i = 0; i < count; i++) {
      rows.get(row);
      model.score0(row, prediction);
      predictions.put(prediction);
    }
    return System.nanoTime() - started;
  }
}
