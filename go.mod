module dcni

go 1.26.0
