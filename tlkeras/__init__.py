"""tlkeras: transfer learning on Keras, from labelled data to a served and a mobile model."""
